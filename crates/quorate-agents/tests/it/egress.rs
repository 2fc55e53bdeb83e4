//! Real processes whose network is a list of hosts.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;

use quorate_agents::egress::{HostList, PORT, Reason};
use quorate_agents::sandbox::Error;
use quorate_agents::{
    Command, Containment, Egress, Network, Outcome, Sandbox, SandboxLayer, SpawnError, spawn,
};

use crate::sandbox::Yard;

/// A server outside that says hello to whoever comes, until the test ends.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut said = [0; 1024];
                let count = stream.read(&mut said).unwrap_or(0);
                let plain = said[..count].starts_with(b"GET ");
                let head: &[u8] = if plain { b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" } else { b"" };
                let _ = stream.write_all(&[head, b"hello"].concat());
                let _ = stream.shutdown(Shutdown::Write);
                let _ = stream.read(&mut said);
            });
        }
    });
    port
}

fn listed(yard: &Yard, command: &Command, hosts: &[String]) -> (Command, Egress) {
    let egress = Egress::to(HostList::parse(hosts).unwrap());
    let sandbox = Sandbox { egress: egress.clone(), ..yard.sandbox(command, Network::Listed) };
    (Command { sandbox: Some(sandbox), ..command.clone() }, egress)
}

/// Words of Python for talking to the proxy that the environment names.
const PYTHON: &[&str] = &[
    "import urllib.parse",
    "proxy = urllib.parse.urlsplit(os.environ['HTTPS_PROXY'])",
    "def ask(text):",
    "    s = socket.create_connection((proxy.hostname, proxy.port), 20)",
    "    s.sendall(text if isinstance(text, bytes) else text.encode())",
    "    return s",
    "def head(s):",
    "    got = b''",
    "    while b'\\r\\n\\r\\n' not in got:",
    "        piece = s.recv(4096)",
    "        if not piece: break",
    "        got += piece",
    "    return got.decode()",
    "def tunnel(host): return ask(f'CONNECT {host} HTTP/1.1\\r\\nHost: {host}\\r\\n\\r\\n')",
];

fn python(yard: &Yard, lines: &[String]) -> Command {
    let lines: Vec<&str> = PYTHON.iter().copied().chain(lines.iter().map(String::as_str)).collect();
    yard.python(&lines)
}

#[track_caller]
fn run(yard: &Yard, command: &Command) -> Option<quorate_agents::Ended> {
    if yard.works(SandboxLayer::Namespaces) {
        let ended = yard.run(command);
        assert_eq!(ended.outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
        return Some(ended);
    }
    let refusal = spawn(command, &yard.containment);
    assert!(matches!(refusal, Err(SpawnError::Sandbox(Error::Network { .. }))), "{refusal:?}");
    None
}

#[test]
fn a_listed_host_is_reached_by_tunnel_and_by_plain_request_and_others_are_not() {
    let yard = Yard::new();
    let (port, other) = (server(), server());
    let script = [
        format!("s = tunnel('127.0.0.1:{port}'); assert ' 200 ' in head(s); s.sendall(b'x')"),
        "assert s.recv(5) == b'hello'".to_owned(),
        "import urllib.request".to_owned(),
        format!("assert urllib.request.urlopen('http://127.0.0.1:{port}/', timeout=20).read() == b'hello'"),
        format!("assert ' 403 ' in head(tunnel('127.0.0.1:{other}'))"),
        "assert ' 403 ' in head(tunnel('example.com:443'))".to_owned(),
        "assert ' 403 ' in head(tunnel('169.254.169.254:80'))".to_owned(),
        "assert ' 403 ' in head(ask('GET http://169.254.169.254/latest/meta-data/ HTTP/1.1\\r\\n\\r\\n'))"
            .to_owned(),
        "assert ' 400 ' in head(ask(b'\\x05\\x01\\x00'))".to_owned(),
        "assert ' 400 ' in head(ask(b'\\x16\\x03\\x01\\x00'))".to_owned(),
    ];
    let (command, egress) = listed(&yard, &python(&yard, &script), &[format!("127.0.0.1:{port}")]);
    let Some(ended) = run(&yard, &command) else { return };
    let line = "network: listed hosts (network namespace, proxy)".to_owned();
    assert!(ended.containment.contains(&line), "{ended:?}");
    let told: Vec<_> = egress.refusals.take_all().into_iter().map(|r| (r.host, r.reason, r.count)).collect();
    let expected = [
        (String::new(), Reason::Malformed, 2),
        ("127.0.0.1".to_owned(), Reason::NotListed, 1),
        ("169.254.169.254".to_owned(), Reason::NotListed, 2),
        ("example.com".to_owned(), Reason::NotListed, 1),
    ];
    assert_eq!(told, expected);
}

#[test]
fn around_the_proxy_there_is_nothing() {
    let yard = Yard::new();
    let port = server();
    let attempts = [
        // The very server that is listed, without the proxy.
        format!("socket.create_connection(('127.0.0.1', {port}), 5)"),
        "socket.create_connection(('1.1.1.1', 443), 5)".to_owned(),
        "socket.create_connection(('169.254.169.254', 80), 5)".to_owned(),
        "socket.create_connection(('::1', 443), 5)".to_owned(),
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('1.1.1.1', 53))".to_owned(),
        "socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)".to_owned(),
        "socket.getaddrinfo('example.com', 443)".to_owned(),
        "socket.socket(socket.AF_UNIX).connect('/run/docker.sock')".to_owned(),
    ];
    let mut lines = vec!["left = []".to_owned()];
    for attempt in attempts {
        lines.extend(["try:".to_owned(), format!("    {attempt}; left.append({attempt:?})")]);
        lines.extend(["except OSError: pass".to_owned()]);
    }
    lines.push("print(left); assert left == []".to_owned());
    let (command, _) = listed(&yard, &python(&yard, &lines), &[format!("127.0.0.1:{port}")]);
    run(&yard, &command);
}

#[test]
fn what_a_process_serves_itself_is_reached_without_the_proxy() {
    let yard = Yard::new();
    let lines = [
        "import http.server, threading, urllib.request",
        "server = http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)",
        "threading.Thread(target=server.serve_forever, daemon=True).start()",
        "assert urllib.request.urlopen(f'http://localhost:{server.server_port}/', timeout=20).status == 200",
        // The proxy's own port is taken, so that nobody can pass for it.
        "try: socket.create_server(('127.0.0.1', proxy.port)); assert False",
        "except OSError: pass",
    ];
    let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
    let (command, egress) = listed(&yard, &python(&yard, &lines), &["example.com".to_owned()]);
    run(&yard, &command);
    assert_eq!(egress.refusals.take_all(), []);
}

#[test]
fn two_processes_with_different_lists_share_nothing() {
    let (one, two) = (Yard::new(), Yard::new());
    let (port_one, port_two) = (server(), server());
    let script = |own: u16, other: u16| {
        [
            format!("assert ' 200 ' in head(tunnel('127.0.0.1:{own}'))"),
            format!("assert ' 403 ' in head(tunnel('127.0.0.1:{other}'))"),
        ]
    };
    let first = python(&one, &script(port_one, port_two));
    let second = python(&two, &script(port_two, port_one));
    let (first, egress_one) = listed(&one, &first, &[format!("127.0.0.1:{port_one}")]);
    let (second, egress_two) = listed(&two, &second, &[format!("127.0.0.1:{port_two}")]);
    let both = thread::scope(|scope| {
        let first = scope.spawn(|| run(&one, &first));
        let second = scope.spawn(|| run(&two, &second));
        (first.join().unwrap().is_some(), second.join().unwrap().is_some())
    });
    if both == (true, true) {
        let refused = |egress: &Egress| egress.refusals.take_all().iter().map(|r| r.port).collect::<Vec<_>>();
        assert_eq!((refused(&egress_one), refused(&egress_two)), (vec![port_two], vec![port_one]));
    }
}

#[test]
fn when_a_process_has_ended_its_connections_are_cut_even_those_of_a_process_it_left_behind() {
    let yard = Yard::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = [
        format!("s = tunnel('127.0.0.1:{port}'); assert ' 200 ' in head(s); s.sendall(b'x')"),
        "if os.fork() == 0: os.setsid(); signal.pause()".to_owned(),
        "s.recv(1)".to_owned(),
    ];
    let (command, _) = listed(&yard, &python(&yard, &script), &[format!("127.0.0.1:{port}")]);
    if !yard.works(SandboxLayer::Namespaces) {
        return;
    }
    let running = spawn(&command, &yard.containment).unwrap();
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    stream.write_all(b"y").unwrap();
    assert_eq!(running.wait().unwrap().outcome, Outcome::Exited { code: 0 }, "{}", yard.said());
    // By now it is cut; were it not, this would wait for the fork's end.
    let end = stream.read(&mut byte);
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[test]
fn where_namespaces_do_not_work_a_list_is_refused_and_not_weakened() {
    let yard = Yard::new();
    let (command, _) = listed(&yard, &yard.command("true"), &["example.com".to_owned()]);
    let refusal = spawn(&command, &Containment::plain()).map(|_| ()).unwrap_err();
    assert!(matches!(refusal, SpawnError::Sandbox(Error::Network { .. })), "{refusal}");
    assert!(refusal.to_string().contains("keeps the network `listed`"), "{refusal}");
}

#[test]
fn the_environment_leads_every_program_to_the_proxy() {
    let yard = Yard::new();
    let command = yard.command("env | grep -i -e proxy | sort");
    let (command, _) = listed(&yard, &command, &["localhost:9".to_owned(), "example.com".to_owned()]);
    if run(&yard, &command).is_none() {
        return;
    }
    let out = yard.room.out();
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        assert!(out.lines().any(|line| line == format!("{name}=http://127.0.0.1:{PORT}")), "{out}");
    }
    for line in ["NO_PROXY=127.0.0.1,::1", "no_proxy=127.0.0.1,::1", "NODE_USE_ENV_PROXY=1"] {
        assert!(out.lines().any(|found| found == line), "{line}: {out}");
    }
}
