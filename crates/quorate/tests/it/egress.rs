//! What agents of a run may connect to, and what the run says of what they may not.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::room::{CHECKS, Room};

/// A server that says hello to every plain request.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        }
    });
    port
}

const FETCH: &str = r#"
import sys, urllib.request
for url in sys.argv[1:]:
    try: print(url, urllib.request.urlopen(url, timeout=20).read().decode())
    except OSError as error: print(url, error)
"#;

fn works(room: &Room) -> bool {
    let rows = room.json(&["doctor"]);
    let mut rows = rows.as_array().unwrap().iter();
    rows.any(|row| row["what"] == "sandbox: namespaces" && row["works"] == true)
}

#[test]
fn an_agent_reaches_the_hosts_on_its_list_and_the_run_tells_what_it_was_refused() {
    let room = Room::new();
    let (listed, from_variable, other) = (server(), server(), server());
    let url = |port: u16| format!("http://127.0.0.1:{port}/");
    let metadata = "http://169.254.169.254/latest/meta-data/";
    let wanted =
        [url(listed), url(from_variable), url(other), metadata.to_owned(), metadata.to_owned()].join(" ");
    room.write("fetch.sh", FETCH);
    room.swarm(&format!(
        r#"
objective = "x"
[agents.a]
program = "sh"
args = ["-c", "python3 {{swarm-dir}}/fetch.sh {wanted} > fetched.txt"]
env = ["PATH", "HOME", "MODEL_URL"]
[agents.a.sandbox]
read = ["fetch.sh"]
network = "listed"
hosts = ["127.0.0.1:{listed}", "$MODEL_URL"]
{CHECKS}"#
    ));
    let output =
        room.command(&["run", "swarm.toml", "--json"]).env("MODEL_URL", url(from_variable)).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let summary: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    if !works(&room) {
        let reason = summary["unfinished"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("keeps the network `listed`"), "{summary:#}");
        return;
    }
    assert_eq!(summary["landed"].as_array().unwrap().len(), 1, "{summary:#}");
    let branch = summary["branch"].as_str().unwrap();
    let fetched = room.git(&["show", &format!("{branch}:fetched.txt")]);
    let lines: Vec<_> = fetched.lines().collect();
    assert_eq!(lines[0], format!("{} hello", url(listed)));
    assert_eq!(lines[1], format!("{} hello", url(from_variable)));
    assert!(lines[2..].iter().all(|line| line.contains("403")), "{fetched}");
    let expected = serde_json::json!([
        { "host": "127.0.0.1", "port": other, "reason": "not-listed", "count": 1 },
        { "host": "169.254.169.254", "port": 80, "reason": "not-listed", "count": 2 },
    ]);
    for summary in [&summary, &room.json(&["status"])] {
        assert_eq!(summary["agents"][0]["connections_refused"], expected, "{summary:#}");
    }
    let logs = room.quorate(&["logs"]).out;
    let line = format!("was refused a connection to 127.0.0.1:{other}: not on the list of hosts");
    assert!(logs.contains(&line), "{logs}");
    assert!(room.quorate(&["status"]).out.contains("169.254.169.254:80: not on the list of hosts (×2)"));
}

#[test]
fn a_flood_of_refused_attempts_fills_no_journal() {
    let room = Room::new();
    if !works(&room) {
        return;
    }
    let script = r#"
import os, socket, urllib.parse
proxy = urllib.parse.urlsplit(os.environ["HTTP_PROXY"])
for number in range(1000):
    s = socket.create_connection((proxy.hostname, proxy.port), 20)
    s.sendall(f"CONNECT host{number}.example.com:443 HTTP/1.1\r\n\r\n".encode())
    s.recv(4096)
    s.close()
"#;
    room.write("flood.sh", script);
    room.swarm(&format!(
        "objective = \"x\"\n[agents.a]\nprogram = \"python3\"\nargs = [\"{{swarm-dir}}/flood.sh\"]\n\
         [agents.a.sandbox]\nread = [\"flood.sh\"]\nnetwork = \"listed\"\nhosts = [\"example.com\"]\n{CHECKS}"
    ));
    let summary = room.json(&["run", "swarm.toml"]);
    let refused = summary["agents"][0]["connections_refused"].as_array().unwrap();
    let count: u64 = refused.iter().map(|row| row["count"].as_u64().unwrap()).sum();
    assert_eq!(count, 1000, "{summary:#}");
    let records = room.quorate(&["logs", "--json"]).out;
    let told = records.lines().filter(|line| line.contains("\"egress-refused\"")).count();
    assert!((1..=130).contains(&told), "{told} records");
}
