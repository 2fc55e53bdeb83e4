//! `quorate bus pub`.

use std::io::{BufRead as _, Read as _};
use std::time::Duration;

use anyhow::Context as _;
use quorate_base::{ExitStatus, Timestamp};
use quorate_bus::wire::Client;
use quorate_bus::{Message, Priority, Sent};

use crate::cli::Publish;
use crate::failure::Usage;
use crate::host;
use crate::printer::Printer;

pub(super) fn publish(client: &mut Client, args: &Publish, printer: &Printer) -> anyhow::Result<ExitStatus> {
    let priority: Priority = args.priority.parse().map_err(|error| Usage(format!("--priority: {error}")))?;
    let headers: Vec<(&str, &str)> = args
        .headers
        .iter()
        .map(|header| {
            header.split_once('=').ok_or_else(|| Usage(format!("--header {header:?} is not NAME=VALUE")))
        })
        .collect::<Result<_, _>>()?;
    let make = |payload: &[u8]| {
        let mut message = Message::new(payload).with_priority(priority);
        for (name, value) in &headers {
            message = message.with_header(name, value);
        }
        if let Some(key) = &args.key {
            message = message.with_key(key);
        }
        if let Some(expires) = args.expires {
            message = message.with_deadline(Timestamp(host::now().0.saturating_add(expires)));
        }
        message
    };
    if args.lines {
        return lines(client, &args.topic, make, printer);
    }
    let message = match &args.payload {
        Some(payload) => make(payload.as_bytes()),
        None => {
            let mut payload = Vec::new();
            std::io::stdin()
                .read_to_end(&mut payload)
                .context("cannot read the payload from standard input")?;
            make(&payload)
        }
    };
    if let Some(timeout) = args.request {
        let answer = client.request(&args.topic, &message, Duration::from_millis(u64::from(timeout)))?;
        super::subscribe::print(printer, &args.topic, &answer, None)?;
        return Ok(ExitStatus::Done);
    }
    let sent = client.publish(&args.topic, &message)?;
    Ok(told(sent, 1, printer))
}

/// Publishes each line as it comes; lines that are there together wait for their answers together.
fn lines(
    client: &mut Client,
    topic: &str,
    make: impl Fn(&[u8]) -> Message,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let mut input = std::io::BufReader::with_capacity(64 << 10, std::io::stdin().lock());
    let mut total = Sent::default();
    let mut count = 0;
    loop {
        let mut together = Vec::new();
        loop {
            let mut line = Vec::new();
            let read = input.read_until(b'\n', &mut line).context("cannot read standard input")?;
            if read == 0 {
                break;
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            together.push(make(&line));
            if !input.buffer().contains(&b'\n') {
                break;
            }
        }
        if together.is_empty() {
            break;
        }
        count += together.len();
        for sent in client.publish_all(topic, &together)? {
            total.delivered += sent.delivered;
            total.shed += sent.shed;
            total.refused += sent.refused;
            total.stored += sent.stored;
        }
    }
    Ok(told(total, count, printer))
}

fn told(sent: Sent, count: usize, printer: &Printer) -> ExitStatus {
    if printer.json {
        printer.document(&sent);
    } else {
        let Sent { delivered, refused, stored, .. } = sent;
        let messages = if count == 1 { String::new() } else { format!("{count} messages: ") };
        let mut text = format!("{messages}delivered to {delivered}");
        if stored > 0 {
            text.push_str(&format!(", stored {stored}"));
        }
        if refused > 0 {
            text.push_str(&format!(", refused by {refused}"));
        }
        printer.say(&text);
    }
    if sent.refused > 0 { ExitStatus::Refused } else { ExitStatus::Done }
}
