//! The plainest store that keeps what it acknowledged: a log written in groups, and a map behind a lock.

use std::collections::HashMap;
use std::path::Path;
use std::sync::RwLock;

use anyhow::anyhow;

use super::store::{KEY, Key, Store, VALUE, Value};
use crate::limits::log::grouped::Grouped;

#[derive(Debug)]
pub(super) struct Raw {
    log: Grouped,
    map: RwLock<HashMap<Key, Box<Value>>>,
}

const LOG: u64 = 512 << 20;

impl Store for Raw {
    const NAME: &'static str = "log-and-map";

    fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { log: Grouped::create(&folder.join("log"), LOG)?, map: RwLock::default() })
    }

    fn put(&self, key: &Key, value: &Value) -> anyhow::Result<()> {
        self.put_all(&[(*key, *value)])
    }

    fn put_all(&self, pairs: &[(Key, Value)]) -> anyhow::Result<()> {
        let mut bytes = Vec::with_capacity(pairs.len() * (KEY + VALUE));
        for (key, value) in pairs {
            bytes.extend_from_slice(key);
            bytes.extend_from_slice(value);
        }
        self.log.append(&bytes)?;
        let mut map = self.map.write().map_err(|_| anyhow!("a writer panicked"))?;
        map.extend(pairs.iter().map(|(key, value)| (*key, Box::new(*value))));
        Ok(())
    }

    fn get_all(&self, keys: &[Key], mut each: impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
        for key in keys {
            let map = self.map.read().map_err(|_| anyhow!("a writer panicked"))?;
            each(map.get(key).map(|value| value.as_slice()));
        }
        Ok(())
    }
}
