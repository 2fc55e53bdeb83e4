//! What to order, and how much of it.

use crate::stock::Stock;

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The article number.
    pub sku: String,
    /// Pieces to order.
    pub count: u32,
}

/// Orders what is low, up to twice the level at which it is ordered again.
pub fn suggest(stock: &Stock) -> Vec<Order> {
    let mut orders = Vec::new();
    for item in stock.low() {
        let target = item.reorder_at.saturating_mul(2);
        let count = target.saturating_sub(item.on_hand).max(1);
        orders.push(Order {
            sku: normalise(&item.sku),
            count,
        });
    }
    orders
}

/// Brings an article number into the one form that is compared.
fn normalise(sku: &str) -> String {
    let mut out = String::with_capacity(sku.len());
    for c in sku.trim().chars() {
        match c {
            ' ' | '_' => out.push('-'),
            c => out.extend(c.to_lowercase()),
        }
    }
    out
}

/// Puts the orders of several people together, one line a thing.
pub fn merge(orders: &[Order]) -> Vec<Order> {
    let mut merged: Vec<Order> = Vec::new();
    for order in orders {
        let sku = normalise(&order.sku);
        match merged.iter_mut().find(|known| known.sku == sku) {
            Some(known) => known.count = known.count.saturating_add(order.count),
            None => merged.push(Order {
                sku,
                count: order.count,
            }),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(sku: &str, count: u32) -> Order {
        Order {
            sku: sku.to_string(),
            count,
        }
    }

    #[test]
    fn orders_of_one_thing_become_one_line() {
        let merged = merge(&[order("bolt-m4", 3), order("nut-m4", 1), order("Bolt M4", 4)]);
        assert_eq!(merged, [order("bolt-m4", 7), order("nut-m4", 1)]);
    }
}
