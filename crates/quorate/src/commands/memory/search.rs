//! Finding entries, and packing them for an agent.

use quorate_base::ExitStatus;
use quorate_memory::Found;
use quorate_search::pack::{ApproximateTokens, Candidate, Cut, Options, pack};
use quorate_search::{Namespaces, Query};
use serde_json::json;

use super::entries::Line;
use super::place::Place;
use crate::printer::{DIM, Printer};

/// Entries that are looked at for a context.
const CANDIDATES: usize = 200;

fn namespaces(names: Vec<String>) -> Namespaces {
    if names.is_empty() { Namespaces::All } else { Namespaces::Only(names) }
}

pub(super) fn search(
    place: &Place,
    query: String,
    names: Vec<String>,
    tags: Vec<String>,
    vector: Vec<f32>,
    limit: usize,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let query = Query {
        namespaces: namespaces(names),
        tags,
        limit,
        vector: (!vector.is_empty()).then_some(vector),
        ..Query::text(query)
    };
    let found = place.open()?.search(&place.actor, &query)?;
    if printer.json {
        let found: Vec<_> = found
            .iter()
            .map(|found| {
                json!({
                    "namespace": &*found.namespace, "score": found.score,
                    "text_rank": found.text.map(|ranked| ranked.rank),
                    "vector_rank": found.vector.map(|ranked| ranked.rank),
                    "entry": Line::new(found.key.as_bytes(), &found.entry),
                })
            })
            .collect();
        printer.document(&found);
    } else {
        for found in &found {
            let text = String::from_utf8_lossy(found.entry.value());
            let first = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let first: String = first.chars().take(70).collect();
            printer.data(&format!(
                "{DIM}{:<12}{DIM:#} {:<32} {first}",
                &*found.namespace,
                found.key.to_string()
            ));
        }
    }
    Ok(if found.is_empty() { ExitStatus::Refused } else { ExitStatus::Done })
}

pub(super) fn context(
    place: &Place,
    query: String,
    names: Vec<String>,
    tokens: usize,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let query = Query { namespaces: namespaces(names), limit: CANDIDATES, ..Query::text(query) };
    let found = place.open()?.search(&place.actor, &query)?;
    let texts: Vec<String> = found.iter().map(heading).collect();
    let candidates: Vec<Candidate<'_>> = (0..)
        .zip(found.iter().zip(&texts))
        .map(|(id, (found, text))| Candidate { id, text, relevance: found.score, recency: None })
        .collect();
    let options = Options { cut: Some(Cut::default()), ..Options::with_budget(tokens) };
    let packed = pack(&candidates, &options, &ApproximateTokens)?;
    if printer.json {
        let included: Vec<_> = packed
            .included
            .iter()
            .filter_map(|included| {
                let found = found.get(usize::try_from(included.id).ok()?)?;
                Some(json!({
                    "namespace": &*found.namespace, "key": found.key.to_string(),
                    "tokens": included.tokens, "cut": included.cut, "text": included.text,
                }))
            })
            .collect();
        printer.document(&json!({
            "tokens": packed.tokens, "tokens_of_all_found": packed.tokens_of_all,
            "left_out": packed.left_out.len(), "included": included,
        }));
    } else {
        for included in &packed.included {
            printer.data(&included.text);
        }
        printer.say(&format!(
            "{} entries in {} tokens; all {} that were found have {}",
            packed.included.len(),
            packed.tokens,
            found.len(),
            packed.tokens_of_all
        ));
    }
    Ok(if packed.included.is_empty() { ExitStatus::Refused } else { ExitStatus::Done })
}

/// An entry as an agent reads it.
fn heading(found: &Found) -> String {
    format!(
        "## {}/{}\n{}\n",
        found.namespace,
        found.key,
        String::from_utf8_lossy(found.entry.value()).trim_end()
    )
}
