//! Names of the things in the stockroom.

use std::collections::BTreeMap;

/// Which article number stands for what.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    names: BTreeMap<String, String>,
}

impl Catalog {
    /// Adds a thing; answers the name that the number had before.
    pub fn add(&mut self, sku: &str, name: &str) -> Option<String> {
        self.names.insert(normalise(sku), name.to_string())
    }

    /// The name of a thing. Writing the number in capitals or with spaces does not matter.
    pub fn name(&self, sku: &str) -> Option<&str> {
        self.names.get(&normalise(sku)).map(String::as_str)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_however_they_are_written() {
        let mut catalog = Catalog::default();
        assert_eq!(catalog.add("Bolt_M4", "Bolt"), None);
        assert_eq!(catalog.name(" bolt m4 "), Some("Bolt"));
        assert_eq!(catalog.name("bolt-m5"), None);
        assert_eq!(catalog.add("bolt-m4", "Bolt M4"), Some("Bolt".to_string()));
    }
}
