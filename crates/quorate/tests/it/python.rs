//! A certificate checked by the reference implementation, so that nobody has to trust ours.

use std::process::Command;

use crate::room::{Answer, CHECKS, Room};

fn python(script_args: &[&str]) -> Answer {
    let interpreter = std::env::var_os("QUORATE_PYTHON").unwrap_or_else(|| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../quorate-evidence/tests/securesystemslib/verify.py");
    let answer = Answer::of(&Command::new(interpreter).arg(script).args(script_args).output().unwrap());
    assert!(
        !answer.err.contains("ModuleNotFoundError"),
        "this test needs the packages of crates/quorate-evidence/tests/securesystemslib/requirements.txt: run it with \
         `cargo xtask test`, or name a Python that has them in QUORATE_PYTHON ({answer:?})"
    );
    answer
}

#[test]
fn securesystemslib_accepts_a_certificate_and_refuses_an_altered_one() {
    let room = Room::new();
    room.write("quorate.toml", &format!("objective = \"any\"\n{CHECKS}"));
    room.write("extra.txt", "more\n");
    room.commit("good");
    assert_eq!(room.quorate(&["certify", "--output", "../cert.json"]).code, Some(0));
    let certificate = room.path().join("cert.json");
    let certificate = certificate.to_str().unwrap();
    let keys: Vec<String> = ["tests", "integration", "security", "architecture", "performance"]
        .map(|name| room.repo().join(format!(".quorate/keys/{name}.pub")).to_str().unwrap().to_owned())
        .to_vec();
    let all: Vec<&str> = [certificate, "5"].into_iter().chain(keys.iter().map(String::as_str)).collect();
    let accepted = python(&all);
    assert_eq!(accepted.code, Some(0), "{accepted:?}");
    let signed: serde_json::Value = serde_json::from_str(&accepted.out).unwrap();
    let ours = room.json(&["verify", certificate]);
    assert_eq!(signed["signed"].as_array().unwrap().len(), ours["signers"].as_array().unwrap().len());
    let text = std::fs::read_to_string(certificate).unwrap();
    let mut envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
    let payload = envelope["payload"].as_str().unwrap().to_owned();
    envelope["payload"] = format!("{}{}", &payload[..payload.len() - 8], "AAAAAAA=").into();
    std::fs::write(certificate, envelope.to_string()).unwrap();
    assert_eq!(python(&all).code, Some(1));
}
