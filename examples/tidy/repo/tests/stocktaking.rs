//! From a stock list to what is ordered.

use stockroom::{orders, report, Order, Stock};

const LIST: &str = include_str!("../data/stock.csv");

fn stock() -> Stock {
    Stock::parse(LIST).expect("the list that comes with the crate is good")
}

#[test]
fn what_is_low_is_ordered_up_to_twice_its_level() {
    let order = |sku: &str, count| Order {
        sku: sku.to_string(),
        count,
    };
    let wanted = [
        order("nut-m4", 60),
        order("washer-m4", 50),
        order("glue-250", 12),
    ];
    assert_eq!(orders::suggest(&stock()), wanted);
}

#[test]
fn the_shopping_list_names_each_low_thing_once() {
    assert_eq!(
        report::shopping_list(&stock()),
        "60 x nut-m4\n50 x washer-m4\n12 x glue-250\n"
    );
}

#[test]
fn the_table_marks_what_is_low() {
    let table = report::table(&stock());
    let marked: Vec<_> = table.lines().filter(|line| line.starts_with('*')).collect();
    assert_eq!(marked.len(), 3, "{table}");
    assert!(
        marked[2].contains(r#"Wood glue "strong", 250 ml"#),
        "{table}"
    );
    assert!(table.ends_with("together 74.60\n"), "{table}");
}
