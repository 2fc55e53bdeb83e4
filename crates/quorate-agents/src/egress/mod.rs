//! What a process whose network is `listed` may connect to: a list of hosts, held by a proxy.
//!
//! The process lives in a network namespace with nothing but a loopback device. On that device it finds one listener,
//! at [`PORT`], which it has made itself before it became the program and handed to the node (`handover`). The node
//! accepts there and connects outside, so that nothing but the `proxy` stands between the two. It understands
//! `CONNECT host:port` and plain requests for `http://…` ([`request`]), nothing else: no SOCKS, no UDP, no names.
//!
//! A host is on the [list](HostList) or it is not; then its name is resolved once, here, and the connection goes to
//! exactly an address that was looked at (`address`). TLS is passed through, never opened: what the process says to a
//! host on the list, and which of that server's names it asks for inside TLS, is not seen.
//!
//! Read [`HostList`] first, then `proxy`.

mod address;
mod handover;
mod ledger;
mod list;
mod proxy;
mod relay;
pub mod request;
mod target;

pub use ledger::{Reason, Refusals, Refused};
pub use list::{HostList, InvalidHost, base_url_entry};
pub use target::{Host, InvalidTarget, Target};

pub(crate) use handover::{Giver, Handover};
pub(crate) use proxy::{Bounds, Proxy};

/// Where the proxy listens, on the loopback device of the process's own network: nobody else's port.
pub const PORT: u16 = 3128;

/// Variables by which programs are told of a proxy. A declaration cannot set them where the network is listed.
pub const VARIABLES: [&str; 8] = [
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "all_proxy",
    "no_proxy",
];

/// What one process may connect to, and where it is told what it was refused.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Egress {
    pub hosts: HostList,
    /// Filled while the process runs.
    pub refusals: Refusals,
}

impl Egress {
    pub fn to(hosts: HostList) -> Self {
        Self { hosts, refusals: Refusals::default() }
    }

    /// The variables that lead the programs of a process to its proxy. Its own loopback is reached without, except for
    /// those of its names that are on the list, and so mean this machine's.
    pub(crate) fn variables(&self) -> Vec<(&'static str, String)> {
        let proxy = format!("http://127.0.0.1:{PORT}");
        let direct = self.hosts.own_loopback().join(",");
        let mut told: Vec<(&'static str, String)> = VARIABLES
            .iter()
            .map(|name| {
                let direct_to = name.eq_ignore_ascii_case("NO_PROXY");
                (*name, if direct_to { direct.clone() } else { proxy.clone() })
            })
            .collect();
        // Node.js does not look at the others without it.
        told.push(("NODE_USE_ENV_PROXY", "1".to_owned()));
        told
    }
}
