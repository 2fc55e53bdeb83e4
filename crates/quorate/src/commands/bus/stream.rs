//! `quorate bus stream`.

use quorate_base::{ExitStatus, Millis};
use quorate_bus::stream::Retention;
use quorate_bus::wire::Client;
use serde_json::{Value, json};

use crate::cli::Stream;
use crate::printer::{DIM, Printer};

pub(super) fn stream(client: &mut Client, command: Stream, printer: &Printer) -> anyhow::Result<ExitStatus> {
    match command {
        Stream::Create { name, patterns, max_age, max_bytes, max_messages, latest_by_key } => {
            let retention = Retention {
                age: max_age.map(|seconds| Millis(seconds.saturating_mul(1000))),
                bytes: max_bytes,
                messages: max_messages,
                latest_by_key,
            };
            let command =
                json!({ "op": "create-stream", "name": name, "patterns": patterns, "retention": retention });
            let made = client.command(&command)?;
            done(&made, &format!("stream {name} keeps {}", patterns.join(", ")), printer);
        }
        Stream::List => list(client, printer)?,
        Stream::Dead { stream, consumer } => {
            let dead =
                client.command(&json!({ "op": "dead-letters", "stream": stream, "consumer": consumer }))?;
            if printer.json {
                printer.document(&dead);
            } else {
                for letter in dead.as_array().into_iter().flatten() {
                    printer.data(&format!(
                        "{:>10}  {:<9} after {} deliveries",
                        letter["message"],
                        letter["reason"].as_str().unwrap_or("?"),
                        letter["attempts"]
                    ));
                }
            }
        }
        Stream::Replay { stream, consumer, message } => {
            let command =
                json!({ "op": "replay", "stream": stream, "consumer": consumer, "message": message });
            return Ok(one(client, &command, "replayed", message, printer)?);
        }
        Stream::Purge { stream, consumer, message } => {
            let command =
                json!({ "op": "purge", "stream": stream, "consumer": consumer, "message": message });
            return Ok(one(client, &command, "purged", message, printer)?);
        }
        Stream::Leave { stream, consumer } => {
            let command = json!({ "op": "remove-consumer", "stream": stream, "consumer": consumer });
            let removed = client.command(&command)?;
            done(&removed, &format!("{consumer} has no place in {stream} any more"), printer);
        }
    }
    Ok(ExitStatus::Done)
}

fn done(result: &Value, text: &str, printer: &Printer) {
    if printer.json {
        printer.document(result);
    } else {
        printer.say(text);
    }
}

fn one(
    client: &mut Client,
    command: &Value,
    what: &str,
    message: u64,
    printer: &Printer,
) -> Result<ExitStatus, quorate_bus::wire::client::Error> {
    let result = client.command(command)?;
    if result[what] == Value::Bool(true) {
        done(&result, &format!("{what} {message}"), printer);
        return Ok(ExitStatus::Done);
    }
    done(&result, &format!("message {message} is no dead letter of this consumer"), printer);
    Ok(ExitStatus::Refused)
}

fn list(client: &mut Client, printer: &Printer) -> anyhow::Result<()> {
    let report = client.report()?;
    if printer.json {
        printer.document(&report.streams);
        return Ok(());
    }
    for stream in &report.streams {
        printer.data(&format!(
            "{:<20} {:>10} messages  {:>12} bytes  {DIM}{}{DIM:#}",
            stream.name,
            stream.messages,
            stream.bytes,
            stream.patterns.join(" ")
        ));
        for consumer in &stream.consumers {
            printer.data(&format!(
                "  {:<18} {:>10} behind, {} out, {} wait to come again, {} dead",
                consumer.name, consumer.lag, consumer.out, consumer.waiting, consumer.dead
            ));
        }
    }
    Ok(())
}
