//! Vectors of one namespace: rows that are scanned, and above some size a graph that spares the scan.

mod graph;
mod space;
mod unit;

pub(crate) use self::space::Space;
pub(crate) use self::unit::Unit;
