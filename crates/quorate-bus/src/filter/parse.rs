//! From a filter's text to its tree, by recursive descent.

use regex::RegexBuilder;

use super::{CONDITIONS_MAX, Compare, DEPTH_MAX, Error, Field, LENGTH_MAX, LIST_MAX, Node, Value, urgency};

/// Bytes a compiled regular expression may take.
const EXPRESSION_MAX: usize = 256 << 10;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Number(f64),
    Sign(&'static str),
    End,
}

impl Token {
    fn show(&self) -> String {
        match self {
            Self::Word(word) => format!("`{}`", word.chars().take(40).collect::<String>()),
            Self::Text(_) => "a text".into(),
            Self::Number(number) => format!("`{number}`"),
            Self::Sign(sign) => format!("`{sign}`"),
            Self::End => "the end".into(),
        }
    }

    fn is_word(&self, wanted: &str) -> bool {
        matches!(self, Self::Word(word) if word == wanted)
    }
}

pub(super) fn parse(text: &str) -> Result<Node, Error> {
    if text.len() > LENGTH_MAX {
        return Err(Error::Length(text.len()));
    }
    let tokens = tokens(text)?;
    let mut parser = Parser { tokens, at: 0, conditions: 0 };
    let node = parser.any(0)?;
    match parser.peek() {
        Token::End => Ok(node),
        _ => Err(parser.unexpected("`and`, `or` or the end")),
    }
}

const SIGNS: [&str; 12] = ["!=", "<=", ">=", "==", "=", "<", ">", "(", ")", "[", "]", ","];

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Error> {
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let at = text.len() - rest.len();
        let Some(first) = rest.chars().next() else {
            tokens.push((at, Token::End));
            return Ok(tokens);
        };
        if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push((at, Token::Sign(if *sign == "==" { "=" } else { sign })));
            rest = &rest[sign.len()..];
        } else if first == '"' || first == '\'' {
            let (value, length) = quoted(rest, first).ok_or(Error::Unclosed { at })?;
            tokens.push((at, Token::Text(value)));
            rest = &rest[length..];
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let word = &rest[..length];
            let numeric = word.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
            let token = match word.parse::<f64>() {
                Ok(number) if numeric && number.is_finite() => Token::Number(number),
                _ => Token::Word(word.to_owned()),
            };
            tokens.push((at, token));
            rest = &rest[length..];
        } else {
            return Err(Error::Unexpected {
                at,
                expected: "a field, a value or a sign",
                found: format!("{first:?}"),
            });
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '$' | '@')
}

/// The text between quotes, and how many bytes it took with them. A backslash takes the next character as it is.
fn quoted(text: &str, quote: char) -> Option<(String, usize)> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => match chars.next()?.1 {
                // For regular expressions: what is no quote keeps its backslash.
                escaped @ ('"' | '\'' | '\\') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            _ if c == quote => return Some((value, at + c.len_utf8())),
            _ => value.push(c),
        }
    }
    None
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    at: usize,
    conditions: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |(_, token)| token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |(at, _)| *at)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn unexpected(&self, expected: &'static str) -> Error {
        Error::Unexpected { at: self.position(), expected, found: self.peek().show() }
    }

    fn any(&mut self, depth: usize) -> Result<Node, Error> {
        let mut nodes = vec![self.all(depth)?];
        while self.peek().is_word("or") {
            self.at += 1;
            nodes.push(self.all(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::Or(nodes) })
    }

    fn all(&mut self, depth: usize) -> Result<Node, Error> {
        let mut nodes = vec![self.one(depth)?];
        while self.peek().is_word("and") {
            self.at += 1;
            nodes.push(self.one(depth)?);
        }
        Ok(if nodes.len() == 1 { nodes.remove(0) } else { Node::And(nodes) })
    }

    fn one(&mut self, depth: usize) -> Result<Node, Error> {
        if depth >= DEPTH_MAX {
            return Err(Error::TooDeep);
        }
        if self.peek().is_word("not") {
            self.at += 1;
            return Ok(Node::Not(Box::new(self.one(depth + 1)?)));
        }
        if *self.peek() == Token::Sign("(") {
            self.at += 1;
            let node = self.any(depth + 1)?;
            self.expect(")", "`)`")?;
            return Ok(node);
        }
        self.conditions += 1;
        if self.conditions > CONDITIONS_MAX {
            return Err(Error::TooMany);
        }
        if self.peek().is_word("exists") {
            self.at += 1;
            return Ok(Node::Exists(self.field()?));
        }
        self.condition()
    }

    fn expect(&mut self, sign: &'static str, expected: &'static str) -> Result<(), Error> {
        if *self.peek() != Token::Sign(sign) {
            return Err(self.unexpected(expected));
        }
        self.at += 1;
        Ok(())
    }

    fn field(&mut self) -> Result<Field, Error> {
        let Token::Word(name) = self.peek().clone() else {
            return Err(self.unexpected("a field"));
        };
        self.at += 1;
        Ok(match name.as_str() {
            "topic" => Field::Topic,
            "size" => Field::Size,
            "producer" => Field::Producer,
            "priority" => Field::Priority,
            "data" => Field::Data(Vec::new()),
            _ => match name.strip_prefix("data.") {
                Some(path) => Field::Data(path.split('.').map(str::to_owned).collect()),
                None => Field::Header(name),
            },
        })
    }

    fn condition(&mut self) -> Result<Node, Error> {
        let field = self.field()?;
        let how = match self.peek() {
            Token::Sign("=") => Compare::Eq,
            Token::Sign("!=") => Compare::Ne,
            Token::Sign("<") => Compare::Lt,
            Token::Sign("<=") => Compare::Le,
            Token::Sign(">") => Compare::Gt,
            Token::Sign(">=") => Compare::Ge,
            Token::Word(word) => match word.as_str() {
                "eq" => Compare::Eq,
                "ne" => Compare::Ne,
                "lt" => Compare::Lt,
                "le" => Compare::Le,
                "gt" => Compare::Gt,
                "ge" => Compare::Ge,
                "in" => {
                    self.at += 1;
                    return self.list(field);
                }
                "contains" => {
                    self.at += 1;
                    return Ok(Node::Contains(field, self.text()?));
                }
                "matches" => {
                    self.at += 1;
                    let at = self.position();
                    let text = self.text()?;
                    let expression = RegexBuilder::new(&text).size_limit(EXPRESSION_MAX).build();
                    let reason = |error: regex::Error| {
                        let reason = error.to_string();
                        let line = reason.lines().last().unwrap_or_default().trim();
                        Error::Expression { at, reason: line.trim_start_matches("error: ").to_owned() }
                    };
                    return Ok(Node::Matches(field, Box::new(expression.map_err(reason)?)));
                }
                _ => return Err(self.unexpected("an operator (= != < <= > >= in contains matches)")),
            },
            _ => return Err(self.unexpected("an operator (= != < <= > >= in contains matches)")),
        };
        self.at += 1;
        let value = self.value(&field)?;
        Ok(Node::Compare(field, how, value))
    }

    fn list(&mut self, field: Field) -> Result<Node, Error> {
        self.expect("[", "`[`")?;
        let mut values = Vec::new();
        while *self.peek() != Token::Sign("]") {
            if !values.is_empty() {
                self.expect(",", "`,` or `]`")?;
            }
            if values.len() == LIST_MAX {
                return Err(Error::ListTooLong);
            }
            values.push(self.value(&field)?);
        }
        self.at += 1;
        Ok(Node::In(field, values))
    }

    fn text(&mut self) -> Result<String, Error> {
        match self.peek().clone() {
            Token::Text(text) | Token::Word(text) => {
                self.at += 1;
                Ok(text)
            }
            _ => Err(self.unexpected("a text in quotes")),
        }
    }

    fn value(&mut self, field: &Field) -> Result<Value, Error> {
        let token = self.peek().clone();
        let value = match (field, token) {
            (Field::Priority, Token::Word(name) | Token::Text(name)) => {
                urgency(&name).ok_or_else(|| self.unexpected("critical, high, normal, low or background"))?
            }
            (Field::Priority, _) => return Err(self.unexpected("critical, high, normal, low or background")),
            (_, Token::Number(number)) => Value::Number(number),
            (_, Token::Word(word)) if word == "true" || word == "false" => Value::Flag(word == "true"),
            (_, Token::Text(text) | Token::Word(text)) => Value::Text(text),
            _ => return Err(self.unexpected("a value")),
        };
        self.take();
        Ok(value)
    }
}
