//! Credentials in added lines.
//!
//! Known formats are found wherever they stand; any other value only where a name says that it is a secret and the value
//! looks like one. What is shown of a value is its first four characters.

use std::sync::LazyLock;

use quorate_evidence::check::{Finding, Severity, Status};
use regex::Regex;

use super::added::{self, File};
use super::{Opinion, finding};
use crate::subject::Subject;

/// Bits a character of an unknown value must carry.
const ENTROPY_MIN: f64 = 3.2;
/// Lines longer than this are data or built by a machine; only their beginning is read.
const LINE_MAX: usize = 4096;

/// Formats that are credentials by their look alone.
const FORMATS: [(&str, &str); 10] = [
    ("aws-access-key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("github-token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})\b"),
    ("gitlab-token", r"\bglpat-[A-Za-z0-9_-]{20,}\b"),
    ("slack-token", r"\bxox[abprs]-[A-Za-z0-9-]{10,}\b"),
    ("stripe-key", r"\b[sr]k_live_[A-Za-z0-9]{16,}\b"),
    ("google-api-key", r"\bAIza[A-Za-z0-9_-]{35}\b"),
    ("private-key", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    ("llm-api-key", r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{32,}\b"),
    ("url-password", r"\b[a-z][a-z0-9+.-]*://[^/\s:@]{1,64}:[^/\s:@\x22'$<{]{6,}@[A-Za-z0-9.-]+"),
];

#[expect(clippy::expect_used, reason = "the expressions are constants, and a test compiles each")]
static PATTERNS: LazyLock<Vec<(&str, Regex)>> = LazyLock::new(|| {
    FORMATS.iter().map(|(rule, pattern)| (*rule, Regex::new(pattern).expect("a valid expression"))).collect()
});

#[expect(clippy::expect_used, reason = "the expression is a constant, and a test compiles it")]
static ASSIGNMENT: LazyLock<Regex> = LazyLock::new(|| {
    let name = r"(?i)\b[A-Za-z0-9_.-]*(?:passw(?:or)?d|secret|token|api[_-]?key|access[_-]?key|credential|private[_-]?key)[A-Za-z0-9_]*\b";
    Regex::new(&format!(
        r#"{name}["']?\s*(?::\s*[&A-Za-z0-9_<>' ]+)?\s*(?:=|:|=>|:=)\s*["']([^"'\s]{{8,}})["']"#
    ))
    .expect("a valid expression")
});

pub(super) fn secrets(subject: &Subject) -> Opinion {
    let (files, unread) = added::files(subject);
    let mut findings: Vec<Finding> = files.iter().flat_map(scan).collect();
    findings.sort_by(|a, b| (&a.file, a.line, &a.rule).cmp(&(&b.file, b.line, &b.rule)));
    let lines: usize = files.iter().map(|file| file.added.len()).sum();
    let mut opinion = Opinion::of(findings, &format!("no credential in {lines} added lines"));
    opinion.measures.insert("added_lines".into(), lines as f64);
    opinion.measures.insert("files_not_read".into(), unread as f64);
    // A link's target and binary files are outside what this can judge; a large text is not.
    if unread > 0 && opinion.status == Status::Pass {
        opinion.reason = format!("{}; {unread} binary or very large files were not read", opinion.reason);
    }
    opinion
}

fn scan(file: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (number, line) in &file.added {
        if let Some((rule, value)) = find(line) {
            let shown: String = value.chars().take(4).collect();
            let message = format!("hard-coded credential ({rule}, {shown}…)");
            let found = finding(rule, Severity::Error, &file.name, Some(*number), message);
            findings.push(Finding { cwe: Some("CWE-798".into()), ..found });
        }
    }
    findings
}

/// The first credential in a line.
fn find(line: &str) -> Option<(&'static str, &str)> {
    let end = line.char_indices().map(|(at, _)| at).find(|at| *at >= LINE_MAX).unwrap_or(line.len());
    let line = &line[..end];
    if let Some(found) =
        PATTERNS.iter().find_map(|(rule, pattern)| Some((*rule, pattern.find(line)?.as_str())))
    {
        return Some(found);
    }
    let value = ASSIGNMENT.captures(line)?.get(1)?.as_str();
    looks_random(value).then_some(("assigned-secret", value))
}

fn looks_random(value: &str) -> bool {
    let placeholder = [
        "example",
        "placeholder",
        "changeme",
        "your",
        "xxxx",
        "dummy",
        "redacted",
        "<",
        "${",
        "{{",
        "$(",
        "test",
    ];
    let lower = value.to_ascii_lowercase();
    if placeholder.iter().any(|word| lower.contains(word)) {
        return false;
    }
    let digits = value.bytes().any(|b| b.is_ascii_digit());
    let letters = value.bytes().any(|b| b.is_ascii_alphabetic());
    // Words joined by separators are names of things: identifiers, paths, keys of translations.
    let wordy =
        value.split(['_', '-', '.', '/', ':']).all(|part| part.bytes().all(|b| b.is_ascii_lowercase()));
    digits && letters && !wordy && entropy(value) >= ENTROPY_MIN
}

/// Shannon entropy of the bytes, in bits.
fn entropy(value: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value.bytes() {
        counts[usize::from(byte)] += 1;
    }
    let length = value.len() as f64;
    let part = |count: u32| {
        let share = f64::from(count) / length;
        -share * share.log2()
    };
    counts.iter().filter(|count| **count > 0).map(|count| part(*count)).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn credentials_are_found() {
        // Put together here, so that no scanner takes this file for a leak.
        let cases = [
            ("aws-access-key", format!("let k = \"{}{}\";", "AKIA", "Q7ZK4XN2VW3TB6LM")),
            ("github-token", format!("{}_{}", "ghp", "a1B2".repeat(9))),
            ("gitlab-token", format!("{}-{}", "glpat", "a1B2c3D4e5F6g7H8i9J0")),
            ("slack-token", format!("{}-{}", "xoxb", "123456789012-abcdef")),
            ("stripe-key", format!("{}_{}", "sk_live", "a1B2c3D4e5F6g7H8")),
            ("google-api-key", format!("{}{}", "AIza", "a1B2c3D4".repeat(4) + "xyz")),
            ("private-key", format!("-----BEGIN {} KEY-----", "RSA PRIVATE")),
            ("llm-api-key", format!("{}-{}", "sk-ant", "a1B2c3D4".repeat(5))),
            ("url-password", format!("postgres://admin:{}@db.internal/x", "hunter2hunter2")),
            ("assigned-secret", format!("password = \"{}\"", "gT7#kQ9!vB2$")),
            ("assigned-secret", format!("const API_KEY: &str = \"{}\";", "9f8e7d6c5b4a39281706f5e4")),
            ("assigned-secret", format!("\"db_password\": \"{}\"", "Zx81mN0pQ2rT")),
        ];
        for (rule, line) in cases {
            assert_eq!(find(&line).map(|(rule, _)| rule), Some(rule), "{line}");
        }
    }

    #[test]
    fn ordinary_code_raises_no_alarm() {
        for line in [
            "let token = tokens.next();",
            "password = os.environ['DB_PASSWORD']",
            "secret: \"${{ secrets.DEPLOY_KEY }}\"",
            "const TOKEN_NAME: &str = \"session_token_name\";",
            "api_key = \"your-api-key-here-123\"",
            "token_type = \"urn:ietf:params:oauth:token-type\"",
            "password: \"changeme123\"",
            "let secret_santa = \"rudolph the reindeer\";",
            "fn parse_token(text: &str) -> Token {",
            "https://user@example.com/path",
            "AKIASHORT",
            "hash = \"da39a3ee5e6b4b0d3255bfef95601890afd80709\"",
        ] {
            assert_eq!(find(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic(line in "\\PC{0,200}") {
            let _ = find(&line);
        }
    }
}
