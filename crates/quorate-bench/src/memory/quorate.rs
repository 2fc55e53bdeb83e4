//! The memory as a store like the others.

use std::path::Path;

use quorate_memory::{Actor, Batch, Kind, Options, Place, Policy, Space, Store as Memory};

use crate::stores::store::{Key, Store, Value};

#[derive(Debug)]
pub(crate) struct Quorate {
    pub(super) space: Space,
}

pub(super) const SPACE: &str = "bench";

/// A store in a folder with one namespace, as the options of a product have it.
pub(super) fn open(folder: &Path) -> anyhow::Result<Space> {
    let memory = Memory::open(Place::folder(folder)?, Options::default())?;
    Ok(memory.create(&Actor::operator(), SPACE, Policy::new(Kind::Project))?)
}

impl Store for Quorate {
    const NAME: &'static str = "quorate";

    fn open(folder: &Path) -> anyhow::Result<Self> {
        Ok(Self { space: open(folder)? })
    }

    fn put(&self, key: &Key, value: &Value) -> anyhow::Result<()> {
        self.space.put(key.as_slice(), value.as_slice())?;
        Ok(())
    }

    fn put_all(&self, pairs: &[(Key, Value)]) -> anyhow::Result<()> {
        let mut batch = Batch::new();
        for (key, value) in pairs {
            batch.put(&self.space, key.as_slice(), value.as_slice())?;
        }
        self.space.commit(batch)?;
        Ok(())
    }

    fn get_all(&self, keys: &[Key], mut each: impl FnMut(Option<&[u8]>)) -> anyhow::Result<()> {
        for key in keys {
            if self.space.read(key, |entry| each(Some(entry.value())))?.is_none() {
                each(None);
            }
        }
        Ok(())
    }
}
