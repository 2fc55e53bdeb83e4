//! The list: which hosts, on which ports.

use std::fmt;
use std::str::FromStr;

use super::address::Reach;
use super::target::{Host, InvalidTarget, Target};

/// The port of an entry that names none.
const PORT_DEFAULT: u16 = 443;
/// Names of a process's own loopback.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Hosts that may be connected to; nothing but those.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HostList(Vec<Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    hosts: Hosts,
    port: u16,
    reach: Reach,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    Exactly(Host),
    /// Every name that ends in a dot and this.
    Below(String),
}

/// This is no entry of a list of hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHost {
    #[error("`{text}`: {source}")]
    Target { text: String, source: InvalidTarget },
    #[error(
        "`{text}`: a star stands alone before a dot at the beginning, and two names follow, as in `*.example.com`"
    )]
    Star { text: String },
    #[error("`{text}`: an address is listed as it is, without `local:`")]
    LocalAddress { text: String },
}

impl HostList {
    /// Reads entries: `name`, `*.name` (all names below it, not itself) or an address, each with `:port` behind it (443
    /// where there is none), and `local:` before a name that may lead into a private network.
    pub fn parse<T: AsRef<str>>(entries: impl IntoIterator<Item = T>) -> Result<Self, InvalidHost> {
        let entries = entries.into_iter().map(|entry| entry.as_ref().parse());
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// How far a connection to this target may lead; nothing where it is not on the list. Where several entries fit,
    /// the one that reaches farthest.
    pub(crate) fn reach(&self, target: &Target) -> Option<Reach> {
        self.0.iter().filter(|entry| entry.fits(target)).map(|entry| entry.reach).max()
    }

    /// Names of the process's own loopback that are not on the list.
    pub(crate) fn own_loopback(&self) -> Vec<&'static str> {
        let listed = |name: &str| {
            self.0.iter().any(|entry| match &entry.hosts {
                Hosts::Exactly(Host::Name(host)) => host == name,
                Hosts::Exactly(Host::Address(address)) => address.to_string() == name,
                Hosts::Below(_) => false,
            })
        };
        LOOPBACK.into_iter().filter(|name| !listed(name)).collect()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Entry {
    fn fits(&self, target: &Target) -> bool {
        let host = match (&self.hosts, &target.host) {
            (Hosts::Exactly(listed), host) => listed == host,
            (Hosts::Below(parent), Host::Name(name)) => {
                // What stands before the dot is one label or more: a name has no empty ones.
                name.strip_suffix(parent.as_str()).is_some_and(|before| before.ends_with('.'))
            }
            (Hosts::Below(_), Host::Address(_)) => false,
        };
        host && self.port == target.port
    }
}

impl FromStr for Entry {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<Self, InvalidHost> {
        let (local, rest) = match text.strip_prefix("local:") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (below, rest) = match rest.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, rest),
        };
        let star = || InvalidHost::Star { text: text.to_owned() };
        if rest.contains('*') {
            return Err(star());
        }
        let target = Target::parse(rest, Some(PORT_DEFAULT))
            .map_err(|source| InvalidHost::Target { text: text.to_owned(), source })?;
        let Target { host, port } = target;
        let reach = match &host {
            Host::Address(_) if local => return Err(InvalidHost::LocalAddress { text: text.to_owned() }),
            Host::Address(_) if !below => Reach::Literal,
            Host::Name(name) if local || name == "localhost" => Reach::Private,
            _ => Reach::Public,
        };
        let hosts = match host {
            Host::Name(name) if below && name.contains('.') => Hosts::Below(name),
            _ if below => return Err(star()),
            host => Hosts::Exactly(host),
        };
        Ok(Self { hosts, port, reach })
    }
}

impl fmt::Display for HostList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, entry) in self.0.iter().enumerate() {
            f.write_str(if number > 0 { ", " } else { "" })?;
            match &entry.hosts {
                Hosts::Exactly(host) => write!(f, "{host}:{}", entry.port)?,
                Hosts::Below(parent) => write!(f, "*.{parent}:{}", entry.port)?,
            }
        }
        Ok(())
    }
}

/// The entry for the server that a variable names by its base URL, as `http://127.0.0.1:8080/v1`: whoever has set it
/// means that server, private network or not. Nothing where it is no such URL, or is one with a password.
pub fn base_url_entry(url: &str) -> Option<String> {
    let (rest, port) = match (url.strip_prefix("https://"), url.strip_prefix("http://")) {
        (Some(rest), _) => (rest, 443),
        (None, Some(rest)) => (rest, 80),
        (None, None) => return None,
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let target = Target::parse(authority, Some(port)).ok()?;
    Some(match target.host {
        Host::Name(_) => format!("local:{target}"),
        Host::Address(_) => target.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reach(list: &[&str], target: &str) -> Option<Reach> {
        HostList::parse(list).unwrap().reach(&Target::parse(target, None).unwrap())
    }

    #[test]
    fn a_host_is_on_the_list_as_a_whole_and_with_its_port_or_not_at_all() {
        let list = ["api.example.com", "*.crates.io:443", "EXAMPLE.org:8443"];
        for target in ["api.example.com:443", "static.crates.io:443", "a.b.crates.io:443", "example.org:8443"]
        {
            assert_eq!(reach(&list, target), Some(Reach::Public), "{target}");
        }
        for target in [
            "api.example.com:80",
            "crates.io:443",
            "evilcrates.io:443",
            "crates.io.evil.com:443",
            "example.com:443",
            "xapi.example.com:443",
            "api.example.com.evil.org:443",
            "a.api.example.com:443",
            "1.2.3.4:443",
        ] {
            assert_eq!(reach(&list, target), None, "{target}");
        }
    }

    #[test]
    fn what_is_not_public_is_listed_by_its_address_or_as_local() {
        let list =
            ["127.0.0.1:8080", "[::1]:8080", "localhost:9000", "local:models.lan:80", "local:*.corp.example"];
        assert_eq!(reach(&list, "127.0.0.1:8080"), Some(Reach::Literal));
        assert_eq!(reach(&list, "[::1]:8080"), Some(Reach::Literal));
        assert_eq!(reach(&list, "localhost:9000"), Some(Reach::Private));
        assert_eq!(reach(&list, "models.lan:80"), Some(Reach::Private));
        assert_eq!(reach(&list, "git.corp.example:443"), Some(Reach::Private));
        assert_eq!(reach(&list, "localhost:8080"), None);
        assert_eq!(reach(&list, "127.0.0.1:9000"), None);
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for wrong in [
            "",
            "*",
            "*:443",
            "*.com",
            "*.*.com",
            "a.*.com",
            "*a.example.com",
            "http://example.com",
            "example.com/",
            "example.com:",
            "user@example.com",
            "*.127.0.0.1:80",
            "local:",
            "local:8080",
            "local:10.0.0.1",
            "**.a.b",
            "example.com.",
        ] {
            assert!(HostList::parse([wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_base_url_gives_the_entry_for_its_server() {
        let entry = |url| base_url_entry(url);
        assert_eq!(entry("https://api.example.com/v1").as_deref(), Some("local:api.example.com:443"));
        assert_eq!(entry("http://127.0.0.1:8080").as_deref(), Some("127.0.0.1:8080"));
        assert_eq!(entry("http://localhost/").as_deref(), Some("local:localhost:80"));
        for url in ["", "example.com", "ftp://a.b", "https://user:word@a.b/", "https:///x", "http://a.b:x/"] {
            assert_eq!(entry(url), None, "{url}");
        }
    }

    proptest! {
        #[test]
        fn a_name_below_a_star_ends_in_a_dot_and_the_name_behind_it(
            name in "[a-z]{1,5}(\\.[a-z]{1,5}){0,3}", parent in "[a-z]{1,3}\\.[a-z]{1,3}"
        ) {
            let list = HostList::parse([format!("*.{parent}")]).unwrap();
            let target = Target { host: Host::Name(name.clone()), port: 443 };
            prop_assert_eq!(list.reach(&target).is_some(), name.ends_with(&format!(".{parent}")));
            let within = Target { host: Host::Name(format!("{name}.{parent}")), port: 443 };
            prop_assert!(list.reach(&within).is_some());
        }

        #[test]
        fn reading_an_entry_never_panics_and_what_is_read_is_listed(text in "\\PC{0,40}|[a-z*.:0-9\\[\\]-]{0,30}") {
            if let Ok(list) = HostList::parse([&text]) {
                prop_assert!(HostList::parse([list.to_string()]).is_ok());
            }
        }
    }
}
