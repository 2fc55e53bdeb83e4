//! `quorate doctor`: what this machine can do.

use quorate_agents::Containment;
use quorate_base::ExitStatus;
use serde::Serialize;

use crate::printer::{BAD, DIM, GOOD, Printer};

#[derive(Debug, Serialize)]
struct Row {
    what: String,
    works: bool,
    detail: String,
    hint: String,
}

/// Programs that checks and agents commonly need, with how to get them.
const PROGRAMS: [&str; 9] =
    ["git", "cargo", "rustfmt", "cargo-clippy", "python3", "node", "npm", "go", "javac"];

pub(crate) fn doctor(printer: &Printer) -> anyhow::Result<ExitStatus> {
    let mut rows: Vec<Row> = Containment::probe()
        .describe()
        .into_iter()
        .map(|layer| Row { what: layer.name, works: layer.works, detail: layer.detail, hint: layer.hint })
        .collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let agents = quorate_swarm::spec::presets::PRESETS
        .iter()
        .map(|preset| (preset.program, preset.install.to_owned()));
    let tools = PROGRAMS.iter().map(|program| (*program, quorate_pipeline::detect::install_hint(program)));
    for (program, hint) in tools.chain(agents) {
        let found =
            std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
        rows.push(Row {
            what: program.to_owned(),
            works: found.is_some(),
            detail: found.map(|file| file.display().to_string()).unwrap_or_else(|| "not in PATH".into()),
            hint,
        });
    }
    // Without git nothing works; without anything else, something less does.
    let git = rows.iter().any(|row| row.what == "git" && row.works);
    if printer.json {
        printer.document(&rows);
    } else {
        for row in &rows {
            let (style, mark) = if row.works { (GOOD, "yes") } else { (BAD, "no ") };
            let hint = if row.works || row.hint.is_empty() {
                String::new()
            } else {
                format!(" {DIM}→ {}{DIM:#}", row.hint)
            };
            printer.data(&format!("{style}{mark}{style:#}  {:<28} {}{hint}", row.what, row.detail));
        }
    }
    Ok(if git { ExitStatus::Done } else { ExitStatus::Usage })
}
