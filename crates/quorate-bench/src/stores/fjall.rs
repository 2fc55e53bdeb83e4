//! fjall, whose journal is synced after each write.

use std::path::Path;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::store::{Key, Store, Value};

pub(super) struct Fjall {
    database: Database,
    values: Keyspace,
}

impl Store for Fjall {
    const NAME: &'static str = "fjall";

    fn open(folder: &Path) -> anyhow::Result<Self> {
        let database = Database::builder(folder.join("fjall")).open()?;
        let values = database.keyspace("values", KeyspaceCreateOptions::default)?;
        Ok(Self { database, values })
    }

    fn put(&self, key: &Key, value: &Value) -> anyhow::Result<()> {
        self.values.insert(key.as_slice(), value.as_slice())?;
        Ok(self.database.persist(PersistMode::SyncData)?)
    }

    fn put_all(&self, pairs: &[(Key, Value)]) -> anyhow::Result<()> {
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (key, value) in pairs {
            batch.insert(&self.values, key.as_slice(), value.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn get_all(&self, keys: &[Key], mut each: impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
        for key in keys {
            each(self.values.get(key)?.as_deref());
        }
        Ok(())
    }
}
