//! Export, import, backup, restore and other keys.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use quorate_base::{ExitStatus, Timestamp};
use quorate_memory::{Point, Transfer};
use quorate_wal::{Disk, OsDisk};

use super::place::{self, Place};
use crate::failure::Usage;
use crate::printer::Printer;

pub(super) fn export(place: &Place) -> anyhow::Result<ExitStatus> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    place.open()?.export(&place.actor, &mut out)?;
    out.flush().context("cannot write to standard output")?;
    Ok(ExitStatus::Done)
}

pub(super) fn import(place: &Place, file: Option<&Path>, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut input: Box<dyn BufRead> = match file {
        Some(path) => {
            let file = File::open(path)
                .map_err(|error| Usage(format!("cannot read {}: {error}", path.display())))?;
            Box::new(BufReader::new(file))
        }
        None => Box::new(std::io::stdin().lock()),
    };
    let Transfer { namespaces, entries, expired, .. } = place.open()?.import(&place.actor, &mut *input)?;
    if printer.json {
        let document =
            serde_json::json!({ "namespaces": namespaces, "entries": entries, "expired": expired });
        printer.document(&document);
    } else {
        printer.say(&format!("read {entries} entries in {namespaces} namespaces; {expired} had expired"));
    }
    Ok(ExitStatus::Done)
}

pub(super) fn backup(place: &Place, to: &Path, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let backup = place.open()?.backup(to)?;
    if printer.json {
        printer.document(&backup);
    } else {
        printer.say(&format!("{} holds the memory up to version {}, verified", to.display(), backup.version));
    }
    Ok(ExitStatus::Done)
}

pub(super) fn restore(
    place: &Place,
    from: &Path,
    version: Option<u64>,
    time: Option<u64>,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let point = match (version, time) {
        (Some(version), _) => Point::Version(version),
        (None, Some(time)) => Point::Time(Timestamp(time)),
        (None, None) => Point::Newest,
    };
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let version = quorate_memory::restore(&disk, from, &place.folder, &place.options(), point)?;
    if printer.json {
        printer.document(&serde_json::json!({ "version": version }));
    } else {
        printer.say(&format!("restored up to version {version}"));
    }
    Ok(ExitStatus::Done)
}

pub(super) fn rotate(place: &Place, new: &Path, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let key = place::key_or_new(new, &place.folder)?;
    let version = place.open()?.rotate_key(key)?;
    if printer.json {
        printer.document(&serde_json::json!({ "version": version, "key_file": new }));
    } else {
        printer.say(&format!(
            "sealed with {0} from now on; give it with --key-file {0} or QUORATE_MEMORY_KEY_FILE, and keep a copy: without it the memory is lost",
            new.display()
        ));
    }
    Ok(ExitStatus::Done)
}
