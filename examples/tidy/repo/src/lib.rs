//! A stockroom: what lies on the shelves, what it is worth and what to order.

pub mod catalog;
pub mod csv;
pub mod money;
pub mod orders;
pub mod report;
pub mod stats;
pub mod stock;

pub use catalog::Catalog;
pub use money::Money;
pub use orders::Order;
pub use stock::{Item, Stock};
