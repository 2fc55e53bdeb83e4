//! LMDB through heed, synced at each commit.

#![expect(unsafe_code, reason = "opening a memory map has no safe form")]

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, WithTls};

use super::store::{Key, Store, Value};

/// Address space, not memory.
const MAP: usize = 4 << 30;

#[derive(Debug)]
pub(super) struct Heed {
    env: Env<WithTls>,
    values: Database<'static, Bytes, Bytes>,
}

impl Store for Heed {
    const NAME: &'static str = "lmdb";

    fn open(folder: &Path) -> anyhow::Result<Self> {
        // SAFETY: the folder is new, belongs to this measure alone, and nothing else touches the file while it is mapped.
        let env = unsafe { EnvOpenOptions::new().map_size(MAP).max_readers(256).open(folder)? };
        let transaction = env.write_txn()?;
        let values = env.create_databases_and_commit(transaction, |opener, transaction| {
            opener.create_database(transaction, None).map(CommitOrAbort::<_, ()>::Commit)
        })?;
        let values = values.unwrap_commit();
        Ok(Self { env, values })
    }

    fn put(&self, key: &Key, value: &Value) -> anyhow::Result<()> {
        self.put_all(&[(*key, *value)])
    }

    fn put_all(&self, pairs: &[(Key, Value)]) -> anyhow::Result<()> {
        let mut transaction = self.env.write_txn()?;
        for (key, value) in pairs {
            self.values.put(&mut transaction, key, value)?;
        }
        Ok(transaction.commit()?)
    }

    fn get_all(&self, keys: &[Key], mut each: impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
        let transaction = self.env.read_txn()?;
        for key in keys {
            each(self.values.get(&transaction, key)?);
        }
        Ok(())
    }
}
