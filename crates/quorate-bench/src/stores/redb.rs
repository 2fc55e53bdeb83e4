//! redb, with its immediate durability.

use std::path::Path;

use redb::{Database, ReadableDatabase as _, TableDefinition};

use super::store::{Key, Store, Value};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("values");

#[derive(Debug)]
pub(super) struct Redb(Database);

impl Store for Redb {
    const NAME: &'static str = "redb";

    fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self(Database::create(folder.join("redb"))?))
    }

    fn put(&self, key: &Key, value: &Value) -> anyhow::Result<()> {
        self.put_all(&[(*key, *value)])
    }

    fn put_all(&self, pairs: &[(Key, Value)]) -> anyhow::Result<()> {
        let transaction = self.0.begin_write()?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for (key, value) in pairs {
                table.insert(key.as_slice(), value.as_slice())?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn get_all(&self, keys: &[Key], mut each: impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
        let table = self.0.begin_read()?.open_table(TABLE)?;
        for key in keys {
            let found = table.get(key.as_slice())?;
            each(found.as_ref().map(|guard| guard.value()));
        }
        Ok(())
    }
}
