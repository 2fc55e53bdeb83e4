//! `quorate bus sub`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use quorate_base::ExitStatus;
use quorate_bus::Message;
use quorate_bus::wire::Client;
use quorate_bus::wire::client::Event;
use quorate_bus::wire::frame::{SubscribeBody, Verdict};
use serde::Serialize;

use crate::cli::Subscribe;
use crate::host;
use crate::printer::Printer;

/// A message as `--json` prints it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    topic: &'a str,
    priority: &'static str,
    id: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    delivery: Option<Delivery>,
    /// The payload where it is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// The payload in hexadecimal where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    hex: Option<String>,
}

/// What a durable stream says of a message.
#[derive(Debug, Clone, Copy, Serialize)]
pub(super) struct Delivery {
    message: u64,
    attempt: u32,
    time_ms: u64,
}

pub(super) fn subscribe(
    client: &mut Client,
    args: &Subscribe,
    printer: &Printer,
) -> anyhow::Result<ExitStatus> {
    let stop = host::stop_on_signals()?;
    let body = SubscribeBody {
        pattern: args.pattern.clone().unwrap_or_default(),
        name: format!("quorate bus sub ({})", std::process::id()),
        filter: args.filter.clone(),
        group: args.group.clone(),
        stream: args.stream.clone(),
        consumer: args.stream.as_ref().map(|_| args.consumer.clone()),
        start: args.stream.as_ref().map(|_| args.from.clone()),
        ..SubscribeBody::default()
    };
    let subscription = client.subscribe(body)?;
    let mut left = args.count;
    let patience = args.timeout.map(Duration::from_millis);
    let mut heard = Instant::now();
    while left != Some(0) && !stop.load(Ordering::Relaxed) {
        let Some(event) = client.next(Some(Duration::from_millis(100)))? else {
            if patience.is_some_and(|patience| heard.elapsed() >= patience) {
                client.unsubscribe(subscription)?;
                printer.say("nothing came in time");
                return Ok(ExitStatus::Refused);
            }
            continue;
        };
        heard = Instant::now();
        match event {
            Event::Message { topic, message, .. } => print(printer, &topic, &message, None)?,
            Event::Delivery { subscription, offset, attempt, time, topic, message } => {
                let delivery = Delivery { message: offset, attempt, time_ms: time.0 };
                if let Err(error) = print(printer, &topic, &message, Some(delivery)) {
                    client.answer(subscription, offset, attempt, Verdict::Nack);
                    client.flush()?;
                    return Err(error.into());
                }
                client.answer(subscription, offset, attempt, Verdict::Ack);
                client.flush()?;
            }
            Event::Ended { reason, .. } => {
                printer.say(&reason);
                return Ok(ExitStatus::Done);
            }
        }
        left = left.map(|left| left - 1);
    }
    // Said, so that what was sent ahead and not printed comes again at once, and does not count as if this process had died with it.
    client.unsubscribe(subscription)?;
    Ok(ExitStatus::Done)
}

/// Prints a message: its payload and a line feed, or a line of JSON. What cannot be written is an error, so that it is not acknowledged.
pub(super) fn print(
    printer: &Printer,
    topic: &str,
    message: &Message,
    delivery: Option<Delivery>,
) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if !printer.json {
        out.write_all(message.payload())?;
        out.write_all(b"\n")?;
        return out.flush();
    }
    let text = std::str::from_utf8(message.payload()).ok();
    let hex = || message.payload().iter().map(|byte| format!("{byte:02x}")).collect();
    let extra = message.extra();
    let headers = extra.into_iter().flat_map(|extra| extra.headers.iter());
    let line = Line {
        topic,
        priority: message.priority().as_str(),
        id: message.id().to_string(),
        headers: headers.map(|(name, value)| (&**name, &**value)).collect(),
        key: message.key(),
        reply: message.reply(),
        correlation: extra.and_then(|extra| extra.correlation).map(|id| id.to_string()),
        traceparent: extra.and_then(|extra| extra.trace).map(|trace| trace.to_string()),
        delivery,
        text,
        hex: if text.is_none() { Some(hex()) } else { None },
    };
    serde_json::to_writer(&mut out, &line)?;
    out.write_all(b"\n")?;
    out.flush()
}
