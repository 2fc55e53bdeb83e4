//! From how a command ended and what it wrote to what that means.

use quorate_evidence::check::Status;
use quorate_evidence::record::Outcome;

use crate::runner::Ran;

/// What a command's end means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    pub status: Status,
    pub reason: String,
    /// Names of tests that failed, where the output tells.
    pub failed: Vec<String>,
    /// How many tests were run, where the output tells.
    pub tests_run: Option<u64>,
}

/// The most failed tests named.
const FAILED_MAX: usize = 50;

/// Judges a command that was run.
pub fn judge(argv: &[String], ran: &Ran) -> Judgement {
    let text = ran.text();
    let inconclusive = |reason: String| Judgement {
        status: Status::Inconclusive,
        reason,
        failed: Vec::new(),
        tests_run: None,
    };
    match &ran.outcome {
        Outcome::Exit { code } => exited(*code, argv, &text),
        Outcome::Signal { signal } => {
            let said = last_line(&text).unwrap_or_default();
            let reason = format!("ended by signal {signal}: {said}");
            Judgement { status: Status::Fail, reason, failed: failed(&text), tests_run: None }
        }
        Outcome::Timeout => inconclusive("it did not end in its time".into()),
        Outcome::OverMemory => inconclusive("it used more memory than it may".into()),
        Outcome::OverCpu => inconclusive("it used more CPU time than it may".into()),
        Outcome::ToolMissing { program, hint } => inconclusive(format!("`{program}` is not there: {hint}")),
        Outcome::Failed { reason } => inconclusive(reason.clone()),
        Outcome::Builtin => inconclusive("no command was run".into()),
    }
}

fn exited(code: i32, argv: &[String], text: &str) -> Judgement {
    let tests_run = tests_run(text);
    let said = last_line(text).unwrap_or_default();
    let is_test = argv.iter().any(|word| matches!(word.as_str(), "test" | "nextest" | "pytest" | "t"));
    let failed = failed(text);
    if code == 0 {
        // A runner that found no test has shown nothing.
        if is_test && tests_run == Some(0) {
            let reason = "no test was run".to_owned();
            return Judgement { status: Status::Inconclusive, reason, failed, tests_run };
        }
        let reason = tests_run.map_or_else(|| "exit 0".to_owned(), |count| format!("{count} tests passed"));
        return Judgement { status: Status::Pass, reason, failed: Vec::new(), tests_run };
    }
    let no_tests = is_test && (code == 5 && text.contains("no tests ran"));
    let no_tool = text.contains("No module named pytest") || text.contains("error: no such command");
    if no_tests || no_tool {
        let reason =
            if no_tool { format!("a tool is missing: {said}") } else { "no test was run".to_owned() };
        return Judgement { status: Status::Inconclusive, reason, failed, tests_run };
    }
    let reason = match failed.as_slice() {
        [] => format!("exit {code}: {}", error_line(text).unwrap_or(said)),
        [one] => format!("test failed: {one}"),
        [first, rest @ ..] => format!("{} tests failed: {first} and {} more", failed.len(), rest.len()),
    };
    Judgement { status: Status::Fail, reason, failed, tests_run }
}

/// Tests run, summed over what the usual runners print.
fn tests_run(text: &str) -> Option<u64> {
    let mut sum = None;
    for line in text.lines().map(str::trim) {
        let count = if let Some(rest) = line.strip_prefix("test result: ") {
            number_before(rest, " passed").zip(number_before(rest, " failed")).map(|(a, b)| a + b)
        } else if line.starts_with("Summary [") {
            number_before(line, " tests run").or_else(|| number_before(line, " test run"))
        } else if line.contains(" passed") && line.contains(" in ") || line.starts_with("no tests ran in") {
            Some(number_before(line, " passed").unwrap_or(0) + number_before(line, " failed").unwrap_or(0))
        } else if let Some(rest) = line.strip_prefix("# tests ") {
            rest.parse().ok()
        } else {
            None
        };
        if let Some(count) = count {
            *sum.get_or_insert(0) += count;
        }
    }
    sum
}

fn number_before(text: &str, word: &str) -> Option<u64> {
    let head = &text[..text.find(word)?];
    head.rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// Names of failed tests in what libtest, nextest, pytest, go test and node print.
fn failed(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for line in text.lines().map(str::trim) {
        let name = if let Some(rest) = line.strip_prefix("test ") {
            rest.strip_suffix(" ... FAILED")
        } else if let Some(rest) = line.strip_prefix("---- ") {
            // Quiet libtest names failures only in the headings of their output.
            rest.strip_suffix(" stdout ----")
        } else if let Some(rest) = line.strip_prefix("--- FAIL: ") {
            rest.split(' ').next()
        } else if let Some(rest) = line.strip_prefix("FAILED ") {
            rest.split(" - ").next()
        } else if let Some(rest) = line.strip_prefix("not ok ") {
            rest.split_once(" - ").map(|(_, name)| name)
        } else {
            None
        };
        if let Some(name) = name.filter(|name| !names.iter().any(|known| known == name))
            && names.len() < FAILED_MAX
        {
            names.push(name.chars().take(200).collect());
        }
    }
    names.sort();
    names
}

fn error_line(text: &str) -> Option<String> {
    let line =
        text.lines().map(str::trim).find(|line| line.starts_with("error") || line.starts_with("Error"))?;
    Some(line.chars().take(200).collect())
}

fn last_line(text: &str) -> Option<String> {
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(200).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(argv: &str, code: i32, text: &str, status: Status, reason: &str) {
        let argv: Vec<String> = argv.split(' ').map(str::to_owned).collect();
        let judgement = exited(code, &argv, text);
        assert_eq!(judgement.status, status, "{judgement:?}");
        assert!(judgement.reason.contains(reason), "{judgement:?}");
    }

    #[test]
    fn a_pass_needs_tests_that_were_run() {
        let none =
            "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out";
        let some =
            "test result: ok. 3 passed; 0 failed; 0 ignored\ntest result: ok. 0 passed; 0 failed; 0 ignored";
        check("cargo test", 0, none, Status::Inconclusive, "no test was run");
        check("cargo test", 0, some, Status::Pass, "3 tests passed");
        check("python3 -m pytest", 5, "no tests ran in 0.01s", Status::Inconclusive, "no test was run");
        check(
            "python3 -m pytest",
            1,
            "/usr/bin/python3: No module named pytest",
            Status::Inconclusive,
            "tool is missing",
        );
        check("cargo build", 0, "", Status::Pass, "exit 0");
    }

    #[test]
    fn failed_tests_are_named() {
        check("cargo test", 101, "test a::b ... FAILED\ntest c ... ok", Status::Fail, "test failed: a::b");
        check(
            "cargo test -q",
            101,
            "---- a::b stdout ----\n---- c stdout ----",
            Status::Fail,
            "2 tests failed: a::b and 1 more",
        );
        check(
            "python3 -m pytest",
            1,
            "FAILED t.py::x - assert 1 == 2\n1 failed in 0.1s",
            Status::Fail,
            "t.py::x",
        );
        check("go test ./...", 1, "--- FAIL: TestX (0.00s)", Status::Fail, "TestX");
        check("cargo build", 101, "error[E0425]: cannot find value", Status::Fail, "E0425");
        check("make", 2, "", Status::Fail, "exit 2");
    }

    #[test]
    fn numbers_are_found_before_their_words() {
        assert_eq!(tests_run("Summary [ 0.1s] 12 tests run: 12 passed"), Some(12));
        assert_eq!(tests_run("2 failed, 3 passed in 0.1s"), Some(5));
        assert_eq!(tests_run("nothing"), None);
    }
}
