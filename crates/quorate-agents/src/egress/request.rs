//! What a program asks of the proxy: the head of an HTTP request, read strictly.
//!
//! Whatever two readers could read two ways is refused: bare line ends, folded lines, blanks before a colon, two lengths,
//! a length beside chunks. So the server on the other side sees what was decided on here.

use super::target::{InvalidTarget, Target};

/// The longest head of a request, in bytes.
pub const HEAD_MAX: usize = 32 << 10;
/// The most fields in a head.
pub const FIELDS_MAX: usize = 128;

/// A request that can be decided on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Bytes both ways from now on.
    Connect(Target),
    /// One plain request and its answer.
    Plain(Plain),
}

/// A plain request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plain {
    pub target: Target,
    /// The head as the server gets it: for itself, on a connection that ends with the answer.
    pub head: Vec<u8>,
    pub body: Body,
}

/// What follows the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Length(u64),
    /// In chunks, which say themselves when they end.
    Chunks,
}

/// Why a head is no request the proxy understands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    #[error("this is no HTTP/1 request")]
    NotHttp,
    #[error("a request line is a method, a target and HTTP/1.0 or HTTP/1.1")]
    RequestLine,
    #[error("the proxy takes `CONNECT host:port` and whole `http://` addresses without a user")]
    Form,
    #[error("{0}")]
    Target(#[from] InvalidTarget),
    #[error("a field of the head is a name, a colon and a value on one line")]
    Field,
    #[error("the head holds more than {FIELDS_MAX} fields")]
    Fields,
    #[error("the length of the body is not said once and clearly")]
    Length,
}

/// Where the head ends in what has come so far. A beginning that cannot become a request is told at once.
pub fn head_end(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    if bytes.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
        return Err(Malformed::NotHttp);
    }
    Ok(memchr::memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4))
}

/// Fields that concern the connection to the proxy, or that the proxy says itself.
const DROPPED: [&str; 9] = [
    "host",
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "te",
    "trailer",
    "upgrade",
];

/// Reads a head with the empty line at its end.
pub fn parse(head: &[u8]) -> Result<Request, Malformed> {
    let head = head.strip_suffix(b"\r\n\r\n").ok_or(Malformed::NotHttp)?;
    let mut lines = Lines(Some(head));
    let line = lines.next().ok_or(Malformed::RequestLine)?;
    let line = std::str::from_utf8(line).map_err(|_| Malformed::RequestLine)?;
    let [method, target, version] =
        line.split(' ').collect::<Vec<_>>().try_into().map_err(|_| Malformed::RequestLine)?;
    let is_method = (1..=24).contains(&method.len()) && method.bytes().all(|byte| byte.is_ascii_uppercase());
    let is_version = matches!(version, "HTTP/1.0" | "HTTP/1.1");
    if !is_method || !is_version || target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Malformed::RequestLine);
    }
    let fields = fields(lines)?;
    let body = body(&fields)?;
    if method == "CONNECT" {
        if body != Body::Length(0) {
            return Err(Malformed::Length);
        }
        return Ok(Request::Connect(Target::parse(target, None)?));
    }
    let rest = target.strip_prefix("http://").ok_or(Malformed::Form)?;
    let at = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    if authority.contains('@') || path.contains('#') {
        return Err(Malformed::Form);
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    let target = Target::parse(authority, Some(80))?;
    let port = if target.port == 80 { String::new() } else { format!(":{}", target.port) };
    let mut head =
        format!("{method} {slash}{path} {version}\r\nHost: {}{port}\r\n", target.host).into_bytes();
    for (name, value) in fields {
        if !DROPPED.iter().any(|dropped| name.eq_ignore_ascii_case(dropped)) {
            head.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
    }
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    Ok(Request::Plain(Plain { target, head, body }))
}

/// The lines of a head; CR and LF stand for nothing else than their ends.
struct Lines<'a>(Option<&'a [u8]>);

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.0?;
        let Some(at) = memchr::memmem::find(rest, b"\r\n") else { return self.0.take() };
        self.0 = Some(&rest[at + 2..]);
        Some(&rest[..at])
    }
}

fn fields<'a>(lines: Lines<'a>) -> Result<Vec<(&'a str, &'a [u8])>, Malformed> {
    let mut fields = Vec::new();
    for line in lines {
        if fields.len() == FIELDS_MAX {
            return Err(Malformed::Fields);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Malformed::Field)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Malformed::Field);
        }
        if !value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
            return Err(Malformed::Field);
        }
        fields.push((std::str::from_utf8(name).map_err(|_| Malformed::Field)?, value));
    }
    Ok(fields)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn body(fields: &[(&str, &[u8])]) -> Result<Body, Malformed> {
    let mut body = None;
    for (name, value) in fields {
        let said = if name.eq_ignore_ascii_case("content-length") {
            let digits = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
            let number = digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten();
            Body::Length(number.ok_or(Malformed::Length)?)
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Malformed::Length);
            }
            Body::Chunks
        } else {
            continue;
        };
        if body.replace(said).is_some() {
            return Err(Malformed::Length);
        }
    }
    Ok(body.unwrap_or(Body::Length(0)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn connect(text: &str) -> Result<String, Malformed> {
        match parse(text.as_bytes())? {
            Request::Connect(target) => Ok(target.to_string()),
            Request::Plain(_) => panic!("{text:?} is no CONNECT"),
        }
    }

    fn plain(text: &str) -> Result<(String, String, Body), Malformed> {
        match parse(text.as_bytes())? {
            Request::Plain(plain) => {
                Ok((plain.target.to_string(), String::from_utf8(plain.head).unwrap(), plain.body))
            }
            Request::Connect(_) => panic!("{text:?} is a CONNECT"),
        }
    }

    #[test]
    fn a_tunnel_is_asked_for_by_host_and_port() {
        let head =
            "CONNECT API.example.com:443 HTTP/1.1\r\nHost: other\r\nProxy-Connection: keep-alive\r\n\r\n";
        assert_eq!(connect(head).unwrap(), "api.example.com:443");
        assert_eq!(connect("CONNECT 127.0.0.1:8080 HTTP/1.0\r\n\r\n").unwrap(), "127.0.0.1:8080");
        for wrong in [
            "CONNECT api.example.com HTTP/1.1\r\n\r\n",
            "CONNECT http://api.example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT user@api.example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT api.example.com:443\0.evil.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT api.example.com.:443 HTTP/1.1\r\n\r\n",
            "CONNECT  api.example.com:443 HTTP/1.1\r\n\r\n",
            "CONNECT api.example.com:443 HTTP/2.0\r\n\r\n",
            "CONNECT api.example.com:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            "CONNECT api.example.com:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT api.example.com:443\r\n\r\n",
            "connect api.example.com:443 HTTP/1.1\r\n\r\n",
        ] {
            assert!(connect(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_plain_request_reaches_the_server_as_its_own_and_alone() {
        let head = "POST http://Example.com:8080/a?b=c HTTP/1.1\r\nHost: evil.com\r\nProxy-Authorization: x\r\n\
                    Connection: keep-alive\r\nX-Kept: 1\r\nContent-Length: 3\r\n\r\n";
        let (target, sent, body) = plain(head).unwrap();
        assert_eq!((target.as_str(), body), ("example.com:8080", Body::Length(3)));
        assert_eq!(
            sent,
            "POST /a?b=c HTTP/1.1\r\nHost: example.com:8080\r\nX-Kept: 1\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"
        );
        let (_, sent, body) =
            plain("GET http://a.b?q HTTP/1.0\r\nTransfer-Encoding: Chunked\r\n\r\n").unwrap();
        assert!(sent.starts_with("GET /?q HTTP/1.0\r\nHost: a.b\r\n"), "{sent}");
        assert_eq!(body, Body::Chunks);
    }

    #[test]
    fn what_could_be_read_two_ways_is_refused() {
        let with = |fields: &str| plain(&format!("GET http://a.b/ HTTP/1.1\r\n{fields}\r\n"));
        assert!(with("A: b\r\n").is_ok());
        for fields in [
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: +1\r\n",
            "Content-Length: 1, 1\r\n",
            "Content-Length:\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "A : b\r\n",
            " folded: b\r\n",
            "A: b\r\n c\r\n",
            "A: b\nX: c\r\n",
            "A: b\rX: c\r\n",
            "A: \0\r\n",
            "none\r\n",
            ": b\r\n",
        ] {
            assert!(with(fields).is_err(), "{fields:?}");
        }
        for line in [
            "GET / HTTP/1.1",
            "GET https://a.b/ HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "GET http://u@a.b/ HTTP/1.1",
            "GET http://a.b/#x HTTP/1.1",
            "GET ftp://a.b/ HTTP/1.1",
            "GET http://a.b\\@c.d/ HTTP/1.1",
            "G\tET http://a.b/ HTTP/1.1",
            "GET http://a.b/\u{e9} HTTP/1.1",
            "",
        ] {
            assert!(parse(format!("{line}\r\n\r\n").as_bytes()).is_err(), "{line:?}");
        }
        assert_eq!(with(&"A: b\r\n".repeat(FIELDS_MAX + 1)).unwrap_err(), Malformed::Fields);
    }

    #[test]
    fn what_is_no_http_is_told_at_its_first_byte() {
        for bytes in [&b"\x05\x01\x00"[..], b"\x04\x01\x00\x50", b"\x16\x03\x01", b"\n", b" GET", b"\0"] {
            assert_eq!(head_end(bytes), Err(Malformed::NotHttp));
        }
        assert_eq!(head_end(b""), Ok(None));
        assert_eq!(head_end(b"GET"), Ok(None));
        assert_eq!(head_end(b"GET x\r\n\r\nrest"), Ok(Some(9)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic_or_send_a_second_head(
            line in prop_oneof![Just("GET http://a.b/ HTTP/1.1"), Just("CONNECT a.b:1 HTTP/1.1"), Just("PUT http://c.d:8/x HTTP/1.0")],
            rest in proptest::collection::vec(any::<u8>(), 0..200),
            noise in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let _ = head_end(&noise);
            let _ = parse(&noise);
            let head = [line.as_bytes(), b"\r\n", &rest, b"\r\n\r\n"].concat();
            if let Ok(Request::Plain(plain)) = parse(&head) {
                prop_assert_eq!(head_end(&plain.head), Ok(Some(plain.head.len())));
                let hosts = plain.head.to_ascii_lowercase();
                prop_assert_eq!(memchr::memmem::find_iter(&hosts, b"\r\nhost:").count(), 1);
            }
        }

        #[test]
        fn a_head_in_the_alphabet_of_heads_is_read_whole_or_refused(text in "(GET|POST|CONNECT) (http://)?[a-z0-9.:@/#?\\[\\]-]{1,30} HTTP/1.[01]\r\n([A-Za-z-]{1,18}: ?[ -~]{0,12}\r\n){0,4}\r\n") {
            match parse(text.as_bytes()) {
                Ok(Request::Connect(target)) => {
                    let port = format!(":{} ", target.port);
                    prop_assert!(text.contains(&port));
                }
                Ok(Request::Plain(plain)) => prop_assert!(plain.head.ends_with(b"Connection: close\r\n\r\n")),
                Err(_) => {}
            }
        }
    }
}
