//! Secrets by name: kept, given to those who declare them, and found nowhere else.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::room::{Answer, CHECKS, Room};

const CANARY: &str = "canary/7f3A+\"q=9~Zk1-hush";

fn set(room: &Room, name: &str, value: &str) -> Answer {
    let mut command = room.command(&["secret", "set", name]);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses the name need not read the value.
    let _ = child.stdin.take().unwrap().write_all(value.as_bytes());
    Answer::of(&child.wait_with_output().unwrap())
}

/// Every file below a folder, links not followed.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle.as_bytes())
}

#[test]
fn secrets_are_set_from_standard_input_listed_by_name_and_removed() {
    let room = Room::new();
    room.quorate(&["init"]);
    let answer = set(&room, "API_KEY", &format!("{CANARY}\n"));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(set(&room, "OTHER", "another-value").code, Some(0));
    for answer in [room.quorate(&["secret", "list"]), room.quorate(&["secret", "list", "--json"])] {
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.out.contains("API_KEY") && answer.out.contains("OTHER"), "{answer:?}");
        assert!(!answer.out.contains("canary") && !answer.err.contains("canary"), "{answer:?}");
    }
    assert_eq!(room.quorate(&["secret", "remove", "OTHER"]).code, Some(0));
    let gone = room.quorate(&["secret", "remove", "OTHER"]);
    assert!(gone.code == Some(2) && gone.err.contains("no secret `OTHER`"), "{gone:?}");
    assert_eq!(room.json(&["secret", "list"]).as_array().unwrap().len(), 1);
    for (name, value, why) in [
        ("1X", "long enough", "no name"),
        ("X", "", "empty"),
        ("X", "abc", "shorter"),
        ("X", "a\0bcdef", "NUL"),
    ] {
        let answer = set(&room, name, value);
        assert!(answer.code == Some(2) && answer.err.contains(why), "{answer:?}");
    }
    // A value on the command line would be seen by everybody on the machine.
    assert_eq!(room.quorate(&["secret", "set", "X", "value"]).code, Some(2));
}

#[test]
fn a_secret_reaches_the_agent_that_declares_it_and_is_found_nowhere_afterwards() {
    let room = Room::new();
    room.quorate(&["init"]);
    assert_eq!(set(&room, "CANARY", CANARY).code, Some(0));
    let encode = r#"
import base64, json, os, sys, urllib.parse
secret = os.environ["CANARY"]
print("plain", secret)
print("json", json.dumps({"key": secret}))
print("url", urllib.parse.quote(secret, safe=""), urllib.parse.quote("x" + secret))
for before in ["", "u", "us", "user:"]:
    print("base64", base64.b64encode((before + secret + "!!").encode()).decode())
    print("base64url", base64.urlsafe_b64encode((before + secret).encode()).decode())
print("hex", secret.encode().hex())
print("error", secret, file=sys.stderr)
print("last words:", secret, file=sys.stderr)
"#;
    room.write("encode.sh", encode);
    // The other waits until the first is there, and looks at everything it can name.
    let spy = r#"
store=$(cd ../../../.. && pwd)
until [ -e ../owner.owner.1/ready ]; do sleep 0.02; done
(cat "$store/secrets.json" "$store/secrets.lock" "$store"/*; cat /proc/[0-9]*/environ; env) > seen 2> errors
echo "secret seen: $(grep -c hush seen), refused: $(grep -c 'Permission denied' errors)" > report.txt
rm seen errors
while [ -e ../owner.owner.1/ready ]; do sleep 0.02; done
"#;
    room.write("spy.sh", spy);
    let owner = "touch ready; python3 \"$0/encode.sh\"; while [ ! -e ../spy.spy.1/report.txt ]; do sleep 0.02; done; \
                 [ -n \"$CANARY\" ] && echo had it > had.txt; rm ready";
    room.swarm(&format!(
        r#"
objective = "x"
[agents.owner]
program = "sh"
args = ["-c", '{owner}', "{{swarm-dir}}"]
secrets = ["CANARY"]
sandbox = {{ read = ["encode.sh"] }}
[agents.spy]
program = "sh"
args = ["{{swarm-dir}}/spy.sh"]
sandbox = {{ read = ["spy.sh"] }}
[gate]
validators = ["tests"]
[checks.tests]
validator = "tests"
command = ["sh", "-c", "env | grep Zk1 && exit 1; true"]
"#
    ));
    let summary = room.json(&["run", "swarm.toml"]);
    assert_eq!(summary["landed"].as_array().unwrap().len(), 2, "{summary:#}");
    let branch = summary["branch"].as_str().unwrap();
    assert_eq!(room.git(&["show", &format!("{branch}:had.txt")]), "had it");
    let report = room.git(&["show", &format!("{branch}:report.txt")]);
    assert!(report.starts_with("secret seen: 0, refused: ") && !report.ends_with(" 0"), "{report}");
    let output = room.quorate(&["logs", "--output", "owner"]).out;
    assert!(output.contains("plain [redacted]") && output.contains("hex [redacted]"), "{output}");
    assert!(output.lines().filter(|line| line.starts_with("base64")).all(|line| line.contains("[redacted]")));
    let store = room.repo().join(".quorate");
    let needles = [
        CANARY,
        "canary/7f3A",
        "canary%2F7f3A",
        "9~Zk1-hush",
        &CANARY.bytes().map(|byte| format!("{byte:02x}")).collect::<String>(),
        // The middle of it in base64, at each of three places.
        "Y2FuYXJ5LzdmM0",
        "NhbmFyeS83ZjNBK",
        "jYW5hcnkvN2YzQS",
    ];
    for file in files(&store).iter().filter(|file| file.file_name().unwrap() != "secrets.json") {
        let bytes = std::fs::read(file).unwrap();
        for needle in needles {
            assert!(!holds(&bytes, needle), "{needle} in {}", file.display());
        }
    }
    for answer in
        [room.quorate(&["status", "--json"]), room.quorate(&["logs", "--json"]), room.quorate(&["logs"])]
    {
        assert!(!answer.out.contains("9~Zk1") && !answer.err.contains("9~Zk1"), "{answer:?}");
    }
}

#[test]
fn the_store_comes_before_the_environment() {
    let room = Room::new();
    room.quorate(&["init"]);
    let script = "printf %s \"$TOKEN\" | tr a-z b-za > value";
    let run = || {
        room.swarm(&format!(
            "objective = \"x\"\n[agents.a]\nprogram = \"sh\"\nargs = [\"-c\", '{script}']\nsecrets = [\"TOKEN\"]\n{CHECKS}"
        ));
        let output =
            room.command(&["run", "swarm.toml", "--json"]).env("TOKEN", "environment").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let summary: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        room.git(&["show", &format!("{}:value", summary["branch"].as_str().unwrap())])
    };
    assert_eq!(run(), "fowjsponfou");
    set(&room, "TOKEN", "storedvalue");
    assert_eq!(run(), "tupsfewbmvf");
}

#[test]
fn a_run_that_declares_a_secret_which_is_nowhere_does_not_begin() {
    let room = Room::new();
    room.swarm(&format!(
        "objective = \"x\"\n[agents.a]\nprogram = \"true\"\nsecrets = [\"NOWHERE_KEY\"]\n{CHECKS}"
    ));
    let answer = room.quorate(&["run", "swarm.toml"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.err.contains("agent `a` declares the secret `NOWHERE_KEY`"), "{answer:?}");
    assert!(answer.err.contains("quorate secret set NOWHERE_KEY"), "{answer:?}");
    assert_eq!(std::fs::read_dir(room.repo().join(".quorate/runs")).unwrap().count(), 0);
}
