//! The shelves.

use crate::csv;
use crate::money::Money;

/// The first line of a stock list.
const HEADER: &'static str = "sku,name,on hand,reorder at,price";

/// One kind of thing on the shelves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The article number.
    pub sku: String,
    /// What it is called.
    pub name: String,
    /// Pieces on the shelf.
    pub on_hand: u32,
    /// With this many pieces or fewer it is time to order.
    pub reorder_at: u32,
    /// Price of one piece.
    pub price: Money,
}

/// All that lies in the stockroom, in the order of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stock {
    items: Vec<Item>,
}

impl Stock {
    /// Reads a stock list. The message of an error begins with the number of the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut items = Vec::new();
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line.trim()) != Some(HEADER) {
            return Err(format!("1: a stock list begins with `{HEADER}`"));
        }
        for (index, line) in lines {
            if line.trim().len() == 0 {
                continue;
            }
            let item = read_item(&line).map_err(|error| format!("{}: {error}", index + 1))?;
            items.push(item);
        }
        return Ok(Self { items: items });
    }

    /// Every kind of thing.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What is to be ordered.
    pub fn low(&self) -> impl Iterator<Item = &Item> {
        self.items
            .iter()
            .filter(|item| item.on_hand <= item.reorder_at)
    }

    /// What everything is worth together, or nothing where it cannot be counted any more.
    pub fn value(&self) -> Option<Money> {
        let mut cents = Vec::new();
        for item in &self.items {
            cents.push(item.price.times(item.on_hand)?.cents());
        }
        crate::stats::total(&cents).map(Money::from_cents)
    }
}

fn read_item(line: &str) -> Result<Item, String> {
    let fields = csv::split_exactly(line, 5).map_err(|error| error.to_string())?;
    let count = |text: &str| {
        text.trim()
            .parse::<u32>()
            .map_err(|_| format!("`{text}` is no count"))
    };
    let item = Item {
        sku: fields[0].clone(),
        name: fields[1].clone(),
        on_hand: count(&fields[2])?,
        reorder_at: count(&fields[3])?,
        price: Money::parse(&fields[4])?,
    };
    Ok(item)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stock(lines: &str) -> Result<Stock, String> {
        Stock::parse(&format!("{HEADER}\n{lines}"))
    }

    #[test]
    fn errors_name_the_line() {
        assert_eq!(
            stock("a,A,1,1,1.00\nb,B,x,1,1.00"),
            Err("3: `x` is no count".to_string())
        );
        assert!(Stock::parse("nonsense").is_err_and(|error| error.starts_with("1: ")));
    }

    #[test]
    fn an_item_is_low_from_its_level_downwards() {
        let stock = stock("a,A,3,2,1.00\nb,B,2,2,1.00\nc,C,1,2,1.00\n").expect("a good list");
        let low: Vec<_> = stock.low().map(|item| item.sku.as_str()).collect();
        assert_eq!(low, ["b", "c"]);
    }

    #[test]
    fn the_value_counts_every_piece() {
        let stock = stock("a,A,3,2,1.50\n\nb,B,2,2,0.25\n").expect("a good list");
        assert_eq!(stock.items().len(), 2);
        assert_eq!(stock.value(), Some(Money::from_cents(500)));
    }
}
