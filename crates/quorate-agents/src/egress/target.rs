//! Where a connection is to lead: a host and a port, read strictly.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest name of a host, in bytes.
const NAME_MAX: usize = 253;
/// The longest part of a name between dots.
const LABEL_MAX: usize = 63;

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub host: Host,
    /// Never 0.
    pub port: u16,
}

/// A host as it was named; a name and an address are never the same host here.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// Lower-case letters, digits and hyphens, with dots between; no dot at the end.
    Name(String),
    Address(IpAddr),
}

/// This names no host, or no port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    #[error("there is no port")]
    NoPort,
    #[error("the port is not a number from 1 to 65535")]
    Port,
    #[error(
        "the host is no name of letters, digits, hyphens and dots (at most {NAME_MAX} bytes, none at either end), and no address"
    )]
    Host,
}

impl Target {
    /// Reads `host:port`, `address:port` or `[address]:port`. Without a port, `port` is meant where there is one.
    pub fn parse(text: &str, port: Option<u16>) -> Result<Self, InvalidTarget> {
        let (host, number) = match text.strip_prefix('[') {
            Some(rest) => {
                let (inside, after) = rest.split_once(']').ok_or(InvalidTarget::Host)?;
                let address: Ipv6Addr = inside.parse().map_err(|_| InvalidTarget::Host)?;
                let number = match after.strip_prefix(':') {
                    Some(number) => Some(number),
                    None if after.is_empty() => None,
                    None => return Err(InvalidTarget::Port),
                };
                (Host::Address(address.into()), number)
            }
            None => match text.split_once(':') {
                Some((host, number)) => (Host::parse(host)?, Some(number)),
                None => (Host::parse(text)?, None),
            },
        };
        let port = match number {
            Some(number) => parse_port(number)?,
            None => port.ok_or(InvalidTarget::NoPort)?,
        };
        Ok(Self { host, port })
    }
}

impl Host {
    /// Reads a name, or an address of version 4. Anything that another reader could take for an address is one here, or
    /// refused: `127.1`, `0x7f000001` and `2130706433` are no names.
    fn parse(text: &str) -> Result<Self, InvalidTarget> {
        if text.is_empty() || text.len() > NAME_MAX || !text.split('.').all(is_label) {
            return Err(InvalidTarget::Host);
        }
        let last = text.rsplit('.').next().unwrap_or_default();
        let hexadecimal = last.len() > 1 && (last.starts_with("0x") || last.starts_with("0X"));
        if hexadecimal || last.bytes().all(|byte| byte.is_ascii_digit()) {
            let address: Ipv4Addr = text.parse().map_err(|_| InvalidTarget::Host)?;
            return Ok(Self::Address(address.into()));
        }
        Ok(Self::Name(text.to_ascii_lowercase()))
    }
}

fn is_label(label: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    !label.is_empty()
        && label.len() <= LABEL_MAX
        && label.bytes().all(inner)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn parse_port(text: &str) -> Result<u16, InvalidTarget> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    let port = plain.then(|| text.parse().ok()).flatten();
    port.ok_or(InvalidTarget::Port)
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let found = Target::parse(text, None).ok().map(|target| target.to_string());
        assert_eq!(found.as_deref(), expected, "{text:?}");
    }

    #[test]
    fn a_target_is_a_name_or_an_address_with_a_port_and_nothing_else() {
        check("api.example.com:443", Some("api.example.com:443"));
        check("API.Example.COM:443", Some("api.example.com:443"));
        check("localhost:1", Some("localhost:1"));
        check("127.0.0.1:65535", Some("127.0.0.1:65535"));
        check("[::1]:80", Some("[::1]:80"));
        check("[2001:DB8::1]:80", Some("[2001:db8::1]:80"));
        for wrong in [
            "",
            ":",
            ":443",
            "host",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "host:01",
            "host: 1",
            "host:1 ",
            "host:1:2",
            "host.:443",
            ".host:443",
            "a..b:443",
            "-a.b:443",
            "a-.b:443",
            "a_b.c:443",
            "user@host:443",
            "host\0.evil.com:443",
            "host%00:443",
            "hö.st:443",
            "host/:443",
            "*.host:443",
            "::1:80",
            "[::1]",
            "[::1]80",
            "[::1",
            "[host]:1",
            "[fe80::1%eth0]:1",
            "127.1:80",
            "0x7f.1:80",
            "0x7f000001:80",
            "2130706433:80",
            "127.0.0.01:80",
            "1.2.3.4.5:80",
            "256.1.1.1:80",
            "host\r\n:443",
            " host:443",
        ] {
            check(wrong, None);
        }
        check(&format!("{}:1", ["a"; 127].join(".")), Some(&format!("{}:1", ["a"; 127].join("."))));
        check(&format!("{}:1", ["a"; 128].join(".")), None);
        check(&format!("{}.com:1", "a".repeat(64)), None);
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_and_read_the_same(text in "[a-zA-Z0-9.:\\[\\]-]{0,40}|\\PC{0,40}") {
            if let Ok(target) = Target::parse(&text, Some(443)) {
                let written = target.to_string();
                prop_assert_eq!(Target::parse(&written, None), Ok(target));
                prop_assert!(written.bytes().all(|b| b.is_ascii_graphic()));
                prop_assert!(!written.contains(['@', '/', '%', '\\', '#', '?']));
            }
        }

        #[test]
        fn every_address_is_an_address_and_never_a_name(address in any::<IpAddr>(), port in 1..=u16::MAX) {
            let target = Target { host: Host::Address(address), port };
            prop_assert_eq!(Target::parse(&target.to_string(), None), Ok(target));
        }
    }
}
