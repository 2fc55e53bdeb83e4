//! What agents say they have used, read from their output as it grows.

use std::collections::{HashMap, VecDeque};

use quorate_base::Digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Amount, Unit};

/// The longest line that is looked at; what is longer says nothing about usage.
const LINE_MAX: usize = 4 << 20;
/// Messages whose usage is remembered apart, because each may be told again: soon, if at all.
const MESSAGES_MAX: usize = 1_000;

/// How an agent tells what it uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// It does not.
    #[default]
    None,
    /// Claude Code, `--output-format stream-json --verbose`.
    Claude,
    /// Codex, `exec --json`.
    Codex,
    /// opencode, `run --format json`.
    Opencode,
    /// Lines `{"quorate-usage": {"tokens": 12, "cost-micros": 34, "tool-calls": 5}}` on standard output, each with the sums so far.
    Lines,
}

impl Source {
    /// Whether it tells how much of a unit was used.
    pub const fn tells(self, unit: Unit) -> bool {
        match unit {
            // Quorate sees these itself.
            Unit::Launches | Unit::AgentTime => true,
            Unit::Tokens | Unit::ToolCalls => !matches!(self, Self::None),
            Unit::Cost => matches!(self, Self::Claude | Self::Opencode | Self::Lines),
        }
    }
}

/// Reads usage off an output, piece by piece.
#[derive(Debug, Default)]
pub struct Meter {
    source: Source,
    line: Vec<u8>,
    /// The line is longer than is looked at.
    skipping: bool,
    sums: Amount,
    messages: Messages,
    /// What a final word says of everything.
    total: Amount,
}

/// Tokens by message. Of one that is told again the most counts, once.
#[derive(Debug, Default)]
struct Messages {
    tokens: u64,
    /// The newest, by the digests of their ids, which may be of any length.
    known: HashMap<Digest, u64>,
    order: VecDeque<Digest>,
}

impl Messages {
    fn take(&mut self, id: &str, tokens: u64) {
        let id = Digest::of(id.as_bytes());
        if !self.known.contains_key(&id) {
            if self.order.len() == MESSAGES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
            self.order.push_back(id);
        }
        let told = self.known.entry(id).or_default();
        self.tokens = self.tokens.saturating_add(tokens.saturating_sub(*told));
        *told = (*told).max(tokens);
    }
}

impl Meter {
    pub fn new(source: Source) -> Self {
        Self { source, ..Self::default() }
    }

    /// Takes more of the output.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.source == Source::None {
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let ends = piece.ends_with(b"\n");
            if !self.skipping {
                self.line.extend_from_slice(piece);
                self.skipping = self.line.len() > LINE_MAX;
            }
            if ends {
                if !self.skipping {
                    self.take_line();
                }
                self.line.clear();
                self.skipping = false;
            } else if self.skipping {
                self.line.clear();
            }
        }
    }

    /// What was used so far, by what has been said.
    pub fn used(&self) -> Amount {
        let messages = Amount { tokens: self.messages.tokens, ..Amount::default() };
        self.sums.plus(messages).max(self.total)
    }

    fn take_line(&mut self) {
        // Most lines are the agent's own talk.
        let Ok(value) = serde_json::from_slice::<Value>(&self.line) else {
            return;
        };
        match self.source {
            Source::None => {}
            Source::Claude => self.claude(&value),
            Source::Codex => self.codex(&value),
            Source::Opencode => self.opencode(&value),
            Source::Lines => self.lines(&value),
        }
    }

    fn claude(&mut self, value: &Value) {
        let tokens = |usage: &Value| {
            let kinds =
                ["input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
            kinds.iter().map(|kind| number(&usage[*kind])).fold(0, u64::saturating_add)
        };
        match value["type"].as_str() {
            // A message comes once for each of its parts, with the usage of all of it each time.
            Some("assistant") => {
                let message = &value["message"];
                let parts = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
                let calls = parts.iter().filter(|part| part["type"] == "tool_use").count() as u64;
                self.sums.tool_calls = self.sums.tool_calls.saturating_add(calls);
                let id = message["id"].as_str().unwrap_or_default();
                self.messages.take(id, tokens(&message["usage"]));
            }
            Some("result") => {
                self.total.cost_micros = self.total.cost_micros.max(micros(&value["total_cost_usd"]));
                self.total.tokens = self.total.tokens.max(tokens(&value["usage"]));
            }
            _ => {}
        }
    }

    fn codex(&mut self, value: &Value) {
        match value["type"].as_str() {
            // Cached input is part of the input here.
            Some("turn.completed") => {
                let usage = &value["usage"];
                let tokens = number(&usage["input_tokens"]).saturating_add(number(&usage["output_tokens"]));
                self.sums.tokens = self.sums.tokens.saturating_add(tokens);
            }
            Some("item.completed")
                if matches!(
                    value["item"]["type"].as_str(),
                    Some("command_execution" | "file_change" | "mcp_tool_call" | "web_search")
                ) =>
            {
                self.sums.tool_calls = self.sums.tool_calls.saturating_add(1);
            }
            _ => {}
        }
    }

    fn opencode(&mut self, value: &Value) {
        let part = &value["part"];
        match value["type"].as_str() {
            Some("step_finish") => {
                let tokens = &part["tokens"];
                let cache =
                    number(&tokens["cache"]["read"]).saturating_add(number(&tokens["cache"]["write"]));
                let plain = ["input", "output", "reasoning"].map(|kind| number(&tokens[kind]));
                let tokens = plain.into_iter().fold(cache, u64::saturating_add);
                self.sums.tokens = self.sums.tokens.saturating_add(tokens);
                self.sums.cost_micros = self.sums.cost_micros.saturating_add(micros(&part["cost"]));
            }
            Some("tool_use") => self.sums.tool_calls = self.sums.tool_calls.saturating_add(1),
            _ => {}
        }
    }

    fn lines(&mut self, value: &Value) {
        let told = &value["quorate-usage"];
        let told = Amount {
            tokens: number(&told["tokens"]),
            cost_micros: number(&told["cost-micros"]),
            tool_calls: number(&told["tool-calls"]),
            ..Amount::default()
        };
        self.total = self.total.max(told);
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

/// Dollars as millionths, rounded up: what is spent is never told too small.
fn micros(value: &Value) -> u64 {
    let dollars = value.as_f64().filter(|dollars| dollars.is_finite() && *dollars > 0.0).unwrap_or(0.0);
    // A cast of what is too large gives the largest.
    (dollars * 1e6).ceil() as u64
}
