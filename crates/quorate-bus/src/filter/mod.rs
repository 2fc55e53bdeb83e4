//! Conditions on the fields of a message, compiled once and asked for each message.
//!
//! ```text
//! priority >= high and data.score > 0.5 and (role = "tester" or role in ["reviewer", "analyst"]) and not exists draft
//! ```
//!
//! | field | is |
//! |---|---|
//! | `topic`, `size`, `producer` | of the message |
//! | `priority` | compared by urgency: `critical` > `high` > `normal` > `low` > `background` |
//! | `data.a.b` | inside a JSON payload |
//! | anything else | the header of that name |
//!
//! Operators: `=` `!=` `<` `<=` `>` `>=`, `in [..]`, `contains "text"`, `matches "regular expression"`, `exists field`; `and`, `or`, `not`,
//! parentheses. Also as words: `eq ne lt le gt ge`. A field that is missing or of another type satisfies no comparison, not even `!=`.

mod parse;
#[cfg(test)]
mod tests;

use regex::Regex;

use crate::message::{Message, Priority};

/// Bytes of a filter's text.
pub const LENGTH_MAX: usize = 4096;
/// Conditions in a filter.
pub const CONDITIONS_MAX: usize = 128;
/// Parentheses and negations within each other.
pub const DEPTH_MAX: usize = 32;
/// Values in an `in` list.
pub const LIST_MAX: usize = 256;

/// A text is not a filter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("a filter has at most {LENGTH_MAX} bytes, this one has {0}")]
    Length(usize),
    #[error("at position {at}: {expected} expected, found {found}")]
    Unexpected { at: usize, expected: &'static str, found: String },
    #[error("at position {at}: the text has no closing quote")]
    Unclosed { at: usize },
    #[error("a filter has at most {CONDITIONS_MAX} conditions")]
    TooMany,
    #[error("parentheses and `not` stand at most {DEPTH_MAX} deep within each other")]
    TooDeep,
    #[error("a list has at most {LIST_MAX} values")]
    ListTooLong,
    #[error("at position {at}: not a usable regular expression: {reason}")]
    Expression { at: usize, reason: String },
}

/// A compiled filter.
#[derive(Debug, Clone)]
pub struct Filter {
    text: Box<str>,
    root: Node,
}

#[derive(Debug, Clone)]
pub(crate) enum Node {
    And(Vec<Self>),
    Or(Vec<Self>),
    Not(Box<Self>),
    Compare(Field, Compare, Value),
    In(Field, Vec<Value>),
    Contains(Field, String),
    Matches(Field, Box<Regex>),
    Exists(Field),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Field {
    Topic,
    Size,
    Producer,
    Priority,
    Data(Vec<String>),
    Header(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Number(f64),
    Flag(bool),
}

/// What a filter sees of a message; a JSON payload is read once, however many filters ask.
#[derive(Debug)]
pub struct View<'a> {
    message: &'a Message,
    topic: &'a str,
    data: std::cell::OnceCell<Option<serde_json::Value>>,
}

impl<'a> View<'a> {
    pub fn new(topic: &'a str, message: &'a Message) -> Self {
        Self { message, topic, data: std::cell::OnceCell::new() }
    }

    fn data(&self, path: &[String]) -> Option<&serde_json::Value> {
        let root = self.data.get_or_init(|| serde_json::from_slice(self.message.payload()).ok()).as_ref()?;
        path.iter().try_fold(root, |value, name| match value {
            serde_json::Value::Array(items) => items.get(name.parse::<usize>().ok()?),
            other => other.get(name),
        })
    }

    /// Hands the field to `ask`; a field that is not there satisfies nothing.
    fn with(&self, field: &Field, ask: impl FnOnce(&Value) -> bool) -> bool {
        let value = match field {
            Field::Topic => Some(Value::Text(self.topic.to_owned())),
            Field::Size => Some(Value::Number(self.message.payload().len() as f64)),
            Field::Producer => Some(Value::Text(format!("{:016x}", self.message.producer()))),
            Field::Priority => Some(Value::Number(f64::from(self.message.priority().urgency()))),
            Field::Header(name) => self.message.header(name).map(|text| Value::Text(text.to_owned())),
            Field::Data(path) => self.data(path).and_then(|value| match value {
                serde_json::Value::String(text) => Some(Value::Text(text.clone())),
                serde_json::Value::Number(number) => number.as_f64().map(Value::Number),
                serde_json::Value::Bool(flag) => Some(Value::Flag(*flag)),
                _ => None,
            }),
        };
        value.is_some_and(|value| ask(&value))
    }

    fn has(&self, field: &Field) -> bool {
        match field {
            Field::Data(path) => self.data(path).is_some_and(|value| !value.is_null()),
            Field::Header(name) => self.message.header(name).is_some(),
            _ => true,
        }
    }
}

impl Filter {
    /// Compiles a filter.
    pub fn new(text: &str) -> Result<Self, Error> {
        Ok(Self { text: text.into(), root: parse::parse(text)? })
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a message satisfies it.
    pub fn accepts(&self, view: &View<'_>) -> bool {
        self.root.accepts(view)
    }
}

impl Node {
    fn accepts(&self, view: &View<'_>) -> bool {
        match self {
            Self::And(nodes) => nodes.iter().all(|node| node.accepts(view)),
            Self::Or(nodes) => nodes.iter().any(|node| node.accepts(view)),
            Self::Not(node) => !node.accepts(view),
            Self::Compare(field, how, wanted) => view.with(field, |found| compare(found, *how, wanted)),
            Self::In(field, list) => {
                view.with(field, |found| list.iter().any(|wanted| compare(found, Compare::Eq, wanted)))
            }
            Self::Contains(field, part) => match field {
                Field::Data(path) if view.data(path).is_some_and(serde_json::Value::is_array) => {
                    let items = view.data(path).and_then(serde_json::Value::as_array);
                    items.into_iter().flatten().any(|item| item.as_str() == Some(part))
                }
                _ => view.with(field, |found| matches!(found, Value::Text(text) if text.contains(part))),
            },
            Self::Matches(field, expression) => {
                view.with(field, |found| matches!(found, Value::Text(text) if expression.is_match(text)))
            }
            Self::Exists(field) => view.has(field),
        }
    }
}

fn compare(found: &Value, how: Compare, wanted: &Value) -> bool {
    let order = match (found, wanted) {
        (Value::Text(found), Value::Text(wanted)) => Some(found.as_str().cmp(wanted)),
        (Value::Number(found), Value::Number(wanted)) => found.partial_cmp(wanted),
        (Value::Flag(found), Value::Flag(wanted)) => Some(found.cmp(wanted)),
        // Headers are text; one that reads as a number compares with numbers.
        (Value::Text(found), Value::Number(wanted)) => {
            found.parse::<f64>().ok().and_then(|found| found.partial_cmp(wanted))
        }
        _ => None,
    };
    order.is_some_and(|order| match how {
        Compare::Eq => order.is_eq(),
        Compare::Ne => order.is_ne(),
        Compare::Lt => order.is_lt(),
        Compare::Le => order.is_le(),
        Compare::Gt => order.is_gt(),
        Compare::Ge => order.is_ge(),
    })
}

/// A priority's name as the number it is compared by.
pub(crate) fn urgency(name: &str) -> Option<Value> {
    name.parse::<Priority>().ok().map(|priority| Value::Number(f64::from(priority.urgency())))
}
