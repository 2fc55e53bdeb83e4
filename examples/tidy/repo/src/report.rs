//! A stock list for people.

use crate::orders;
use crate::stock::Stock;


/// Writes the list as a table, what is low marked with a star, and the value of everything below.
pub fn table( stock:&Stock )->String{
  let name_width=stock.items().iter().map(|item|item.name.chars().count()).max().unwrap_or(0).max("name".len());
    let mut out=format!("  {:<name_width$}  {:>7}  {:>9}\n","name","on hand","price");
  for item in stock.items(){
      let mark=if stock.low().any(|low|low==item){ '*' }else{ ' ' };
        out.push_str( &format!("{mark} {:<name_width$}  {:>7}  {:>9}\n",item.name,item.on_hand,item.price.to_string()) );
  }
    match stock.value(){
      Some(value)=>out.push_str(&format!("together {value}\n")),
        None=>out.push_str("together more than can be counted\n"),
    }
    out
}

/// Writes what to order, one line a thing.
pub fn shopping_list(stock:&Stock)->String{
    let lines:Vec<String>=orders::suggest(stock).iter().map(|order|format!("{} x {}\n",order.count,order.sku)).collect();
  lines.concat()
}

#[cfg(test)]
mod tests {
  use super::*;

  #[test]
  fn an_empty_stockroom_is_worth_nothing() {
      let text = table( &Stock::default() );
      assert!(text.ends_with("together 0.00\n"),"{text}");
      assert_eq!(shopping_list(&Stock::default()),"");
  }
}
