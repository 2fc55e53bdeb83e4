//! `stockroom FILE` prints a stock list and what to order.

use std::process::ExitCode;

use stockroom::{report, Catalog, Stock};

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: stockroom FILE");
        return ExitCode::from(2);
    };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("cannot read {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let stock = match Stock::parse(&text) {
        Ok(stock) => stock,
        Err(error) => {
            eprintln!("{}:{error}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let mut catalog = Catalog::default();
    for item in stock.items() {
        if let Some(other) = catalog.add(&item.sku, &item.name) {
            eprintln!("{}: is `{}` or `{other}`?", item.sku, item.name);
        }
    }
    print!(
        "{}\n{}",
        report::table(&stock),
        report::shopping_list(&stock)
    );
    ExitCode::SUCCESS
}
