//! SQLite with a write-ahead log that is synced at each commit. Its writers share one connection: several would wait for its lock by
//! sleeping.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use anyhow::anyhow;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::store::{Key, Store, Value};

#[derive(Debug)]
pub(super) struct Sqlite(Mutex<Connection>);

const PUT: &str = "INSERT OR REPLACE INTO store VALUES (?1, ?2)";
const GET: &str = "SELECT value FROM store WHERE key = ?1";

impl Sqlite {
    fn connection(&self) -> anyhow::Result<MutexGuard<'_, Connection>> {
        self.0.lock().map_err(|_| anyhow!("a writer panicked"))
    }
}

impl Store for Sqlite {
    const NAME: &'static str = "sqlite";

    fn open(folder: &Path) -> anyhow::Result<Self> {
        let connection = Connection::open(folder.join("sqlite"))?;
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.pragma_update(None, "synchronous", "full")?;
        connection.execute("CREATE TABLE store (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID", [])?;
        Ok(Self(Mutex::new(connection)))
    }

    fn put(&self, key: &Key, value: &Value) -> anyhow::Result<()> {
        self.connection()?.prepare_cached(PUT)?.execute(params![key.as_slice(), value.as_slice()])?;
        Ok(())
    }

    fn put_all(&self, pairs: &[(Key, Value)]) -> anyhow::Result<()> {
        let mut connection = self.connection()?;
        let transaction = connection.transaction()?;
        {
            let mut put = transaction.prepare_cached(PUT)?;
            for (key, value) in pairs {
                put.execute(params![key.as_slice(), value.as_slice()])?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn get_all(&self, keys: &[Key], mut each: impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
        let mut connection = self.connection()?;
        let transaction = connection.transaction()?;
        let mut get = transaction.prepare_cached(GET)?;
        for key in keys {
            let found = get.query_row(params![key.as_slice()], |row| {
                each(Some(row.get_ref(0)?.as_blob()?));
                Ok(())
            });
            if found.optional()?.is_none() {
                each(None);
            }
        }
        Ok(())
    }
}
