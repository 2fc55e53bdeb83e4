use std::io::BufRead;
use std::sync::atomic::AtomicUsize;

use super::super::HostList;
use super::*;

/// A proxy, and a server it may or may not lead to.
struct Room {
    proxy: Proxy,
    at: SocketAddr,
    server: TcpListener,
    refusals: super::super::Refusals,
    lookups: Arc<AtomicUsize>,
}

const ROOMY: Bounds =
    Bounds { connections: 8, head: Duration::from_secs(30), idle: Duration::from_secs(60), bytes: 1 << 30 };

impl Room {
    /// In the list, `PORT` stands for the server's port.
    fn new(list: &[&str], bounds: Bounds) -> Self {
        Self::resolving(list, bounds, |_| vec![Ipv4Addr::LOCALHOST.into()])
    }

    fn resolving(
        list: &[&str],
        bounds: Bounds,
        names: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port().to_string();
        let hosts = HostList::parse(list.iter().map(|entry| entry.replace("PORT", &port))).unwrap();
        let egress = Egress::to(hosts);
        let refusals = egress.refusals.clone();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let lookups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&lookups);
        let resolve = move |name: &str, _: u16| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok(names(name))
        };
        let proxy = Proxy::with_resolver(listener, egress, bounds, Arc::new(resolve)).unwrap();
        Self { proxy, at, server, refusals, lookups }
    }

    fn port(&self) -> u16 {
        self.server.local_addr().unwrap().port()
    }

    fn say(&self, text: &str) -> TcpStream {
        let mut client = TcpStream::connect(self.at).unwrap();
        client.write_all(text.replace("PORT", &self.port().to_string()).as_bytes()).unwrap();
        client
    }

    /// A tunnel that stands, with both ends.
    fn tunnel(&self, host: &str) -> (TcpStream, TcpStream) {
        let client = self.say(&format!("CONNECT {host}:PORT HTTP/1.1\r\n\r\n"));
        let (server, _) = self.server.accept().unwrap();
        assert_eq!(line(&client), "HTTP/1.1 200 Connection established");
        assert_eq!(line(&client), "");
        (client, server)
    }

    fn refused(&self) -> Vec<(String, Reason)> {
        self.refusals.take_all().into_iter().map(|refused| (refused.host, refused.reason)).collect()
    }
}

/// One line, read byte by byte so that nothing after it is taken.
fn line(mut stream: &TcpStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).unwrap_or(0) == 1 && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap().trim_end().to_owned()
}

/// Everything until the end, which may be a hard one.
fn rest(mut stream: &TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_tunnel_to_a_listed_host_passes_bytes_both_ways_until_both_have_ended() {
    let room = Room::new(&["127.0.0.1:PORT"], ROOMY);
    let (mut client, mut server) = room.tunnel("127.0.0.1");
    let large = "x".repeat(300_000);
    let sent = large.clone();
    let sender = thread::spawn(move || {
        client.write_all(sent.as_bytes()).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        rest(&client)
    });
    assert_eq!(rest(&server), large);
    server.write_all(b"answer").unwrap();
    drop(server);
    assert_eq!(sender.join().unwrap(), "answer");
    assert_eq!(room.refused(), []);
}

#[test]
fn what_comes_with_the_request_for_a_tunnel_is_not_lost() {
    let room = Room::new(&["127.0.0.1:PORT"], ROOMY);
    let _client = room.say("CONNECT 127.0.0.1:PORT HTTP/1.1\r\n\r\nearly\n");
    assert_eq!(line(&room.server.accept().unwrap().0), "early");
}

#[test]
fn a_host_that_is_not_listed_is_refused_and_told_and_its_name_is_never_looked_up() {
    let room = Room::new(&["api.example.com:PORT"], ROOMY);
    for host in ["evil.example.com", "127.0.0.1", "localhost", "api.example.com.evil.org"] {
        let answer = rest(&room.say(&format!("CONNECT {host}:PORT HTTP/1.1\r\n\r\n")));
        assert!(
            answer.starts_with("HTTP/1.1 403 ") && answer.contains("list of hosts (api.example.com:"),
            "{answer}"
        );
        assert_eq!(room.refused(), [(host.to_owned(), Reason::NotListed)]);
    }
    let answer = rest(&room.say("CONNECT api.example.com:1 HTTP/1.1\r\n\r\n"));
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(room.lookups.load(Ordering::SeqCst), 0);
}

#[test]
fn a_listed_name_that_leads_to_an_address_of_this_machine_or_of_a_cloud_s_secrets_is_refused() {
    for address in ["127.0.0.1", "169.254.169.254", "10.0.0.1", "::1", "::ffff:169.254.169.254", "0.0.0.0"] {
        let there: IpAddr = address.parse().unwrap();
        let room = Room::resolving(&["rebound.example.com:PORT"], ROOMY, move |_| vec![there]);
        let answer = rest(&room.say("CONNECT rebound.example.com:PORT HTTP/1.1\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{address}: {answer}");
        assert_eq!(room.refused(), [("rebound.example.com".to_owned(), Reason::NotPublic)]);
    }
    let link_local: IpAddr = Ipv4Addr::new(169, 254, 169, 254).into();
    let room = Room::resolving(&["local:models.lan:PORT"], ROOMY, move |_| vec![link_local]);
    assert!(rest(&room.say("CONNECT models.lan:PORT HTTP/1.1\r\n\r\n")).starts_with("HTTP/1.1 403 "));
}

#[test]
fn a_name_is_looked_up_once_and_one_listed_as_local_may_be_this_machine() {
    let room = Room::new(&["local:models.lan:PORT"], ROOMY);
    let (_client, _server) = room.tunnel("MODELS.lan");
    assert_eq!(room.lookups.load(Ordering::SeqCst), 1);
    let room = Room::new(&["localhost:PORT"], ROOMY);
    let (_client, _server) = room.tunnel("localhost");
    assert_eq!(room.lookups.load(Ordering::SeqCst), 0);
}

#[test]
fn a_server_that_is_not_there_is_no_refusal() {
    let room = Room::new(&["127.0.0.1:PORT"], ROOMY);
    let text = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n\r\n", room.port());
    let Room { proxy: _proxy, at, server, refusals, .. } = room;
    drop(server);
    let mut client = TcpStream::connect(at).unwrap();
    client.write_all(text.as_bytes()).unwrap();
    assert!(rest(&client).starts_with("HTTP/1.1 502 "));
    assert_eq!(refusals.take_all(), []);
}

#[test]
fn anything_but_http_is_refused_at_its_first_byte() {
    let room = Room::new(&["127.0.0.1:PORT"], ROOMY);
    // SOCKS 5 and 4, TLS, and noise: no more than this is said, and an answer comes.
    for bytes in ["\x05\x01\x00", "\x04\x01\x00\x50", "\x16\x03\x01", "\0\0\0"] {
        let answer = rest(&room.say(bytes));
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(room.refused(), [(String::new(), Reason::Malformed)]);
    }
}

#[test]
fn a_head_without_end_is_cut_off() {
    let room = Room::new(&["127.0.0.1:PORT"], ROOMY);
    let mut client = room.say("GET http://127.0.0.1:PORT/ HTTP/1.1\r\n");
    let flood = vec![b'a'; 64 << 10];
    // More than any buffer on the way holds: it ends because the other side does.
    while client.write_all(&flood).is_ok() {}
    assert_eq!(room.refused(), [(String::new(), Reason::Malformed)]);
}

#[test]
fn a_head_that_does_not_come_is_not_waited_for() {
    let room = Room::new(&["127.0.0.1:PORT"], Bounds { head: Duration::from_millis(20), ..ROOMY });
    assert!(rest(&room.say("CONNECT 127.0.")).starts_with("HTTP/1.1 400 "));
    assert_eq!(rest(&room.say("")), "");
}

#[test]
fn a_silent_tunnel_is_ended() {
    let room = Room::new(&["127.0.0.1:PORT"], Bounds { idle: Duration::from_millis(20), ..ROOMY });
    let (client, server) = room.tunnel("127.0.0.1");
    assert_eq!((rest(&client), rest(&server)), (String::new(), String::new()));
}

#[test]
fn connections_at_a_time_are_bounded_and_a_place_that_is_left_is_free() {
    let room = Room::new(&["127.0.0.1:PORT"], Bounds { connections: 1, ..ROOMY });
    let (client, server) = room.tunnel("127.0.0.1");
    assert!(rest(&room.say("")).starts_with("HTTP/1.1 503 "));
    assert_eq!(room.refused(), [(String::new(), Reason::Connections)]);
    drop((client, server));
    // The end is seen a moment later.
    while !line(&room.say("CONNECT 127.0.0.1:PORT HTTP/1.1\r\n\r\n")).contains(" 200 ") {}
}

#[test]
fn bytes_are_bounded_over_all_connections() {
    let room = Room::new(&["127.0.0.1:PORT"], Bounds { bytes: 200_000, ..ROOMY });
    let (mut client, server) = room.tunnel("127.0.0.1");
    let flood = vec![b'x'; 64 << 10];
    let reader = thread::spawn(move || rest(&server).len());
    while client.write_all(&flood).is_ok() {}
    // One buffer more may have been under way.
    assert!(reader.join().unwrap() <= 200_000 + (16 << 10));
    assert!(rest(&room.say("CONNECT 127.0.0.1:PORT HTTP/1.1\r\n\r\n")).starts_with("HTTP/1.1 503 "));
    assert!(room.refused().iter().all(|(_, reason)| *reason == Reason::Bytes));
}

#[test]
fn a_plain_request_arrives_alone_and_as_the_server_s_own() {
    let room = Room::new(&["127.0.0.1:PORT"], ROOMY);
    let second = "GET http://127.0.0.1:PORT/second HTTP/1.1\r\n\r\n";
    let client = room.say(&format!(
        "POST http://127.0.0.1:PORT/first HTTP/1.1\r\nHost: other.example.com\r\nContent-Length: 4\r\n\r\nbody{second}"
    ));
    let (mut server, _) = room.server.accept().unwrap();
    let head: Vec<_> = (0..5).map(|_| line(&server)).collect();
    let host = format!("Host: 127.0.0.1:{}", room.port());
    assert_eq!(head, ["POST /first HTTP/1.1", &host, "Content-Length: 4", "Connection: close", ""]);
    let mut body = [0; 4];
    server.read_exact(&mut body).unwrap();
    assert_eq!(&body, b"body");
    server.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&client), "HTTP/1.1 204 No Content\r\n\r\n");
    let mut after = String::new();
    let _ = io::BufReader::new(server).read_line(&mut after);
    assert_eq!(after, "");
}

#[test]
fn when_the_proxy_is_gone_every_connection_is_cut() {
    let room = Room::new(&["127.0.0.1:PORT"], ROOMY);
    let (client, server) = room.tunnel("127.0.0.1");
    let waiting = room.say("CONNECT 127.0.0.1");
    let Room { proxy, at, .. } = room;
    drop(proxy);
    for stream in [&client, &server, &waiting] {
        assert_eq!(rest(stream), "");
    }
    assert!(TcpStream::connect(at).is_err());
}

#[test]
fn a_name_that_is_being_looked_up_holds_nobody_up() {
    let (looking, looks) = std::sync::mpsc::sync_channel(1);
    let (answer, answered) = std::sync::mpsc::sync_channel::<()>(1);
    let answered = Mutex::new(answered);
    let room = Room::resolving(&["slow.example.com:PORT"], ROOMY, move |_| {
        let _ = looking.send(());
        let _ = answered.lock().unwrap().recv();
        vec![Ipv4Addr::LOCALHOST.into()]
    });
    let client = room.say("CONNECT slow.example.com:PORT HTTP/1.1\r\n\r\n");
    looks.recv().unwrap();
    drop(room.proxy);
    drop(answer);
    assert_eq!(rest(&client), "");
}
