//! The hosts of a sandbox, as a swarm file lists them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use quorate_agents::egress::{HostList, InvalidHost, base_url_entry};

/// The most hosts of one agent.
pub(super) const HOSTS_MAX: usize = 1_000;

/// What is said to whoever got an entry wrong.
pub(super) const HINT: &str = "write `api.example.com`, `api.example.com:8443`, `*.example.com`, `127.0.0.1:8080`, `local:name.lan:80` \
    for a name that leads into a private network, or `$NAME` for the server in that variable";

/// The server that a variable names cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Entry(#[from] InvalidHost),
    #[error(
        "the hosts name `${name}`, and what that variable holds is no address of a server; write it as https://HOST or http://HOST:PORT, without a user"
    )]
    BaseUrl { name: String },
}

/// Checks one entry as it stands in a file.
pub(super) fn check(entry: &str) -> Result<(), String> {
    let word = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match entry.strip_prefix('$') {
        Some(name) if !name.is_empty() && word(name) => Ok(()),
        Some(_) => Err(format!("`{entry}`: this is no name of a variable")),
        None => HostList::parse([entry]).map(drop).map_err(|error| error.to_string()),
    }
}

/// The list for a process with this environment. A variable that is not set adds nothing.
pub(crate) fn resolve(entries: &[String], env: &BTreeMap<OsString, OsString>) -> Result<HostList, Error> {
    let mut hosts = Vec::new();
    for entry in entries {
        let Some(name) = entry.strip_prefix('$') else {
            hosts.push(entry.clone());
            continue;
        };
        let Some(value) = env.get(OsStr::new(name)).filter(|value| !value.is_empty()) else { continue };
        let host = value.to_str().and_then(base_url_entry);
        hosts.push(host.ok_or_else(|| Error::BaseUrl { name: name.to_owned() })?);
    }
    Ok(HostList::parse(hosts)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_adds_the_server_it_names_and_one_that_is_not_set_adds_nothing() {
        let entries = ["api.example.com".to_owned(), "$BASE_URL".to_owned()];
        let list = |value: Option<&str>| {
            let env = value.map(|value| ("BASE_URL".into(), value.into())).into_iter().collect();
            resolve(&entries, &env).map(|list| list.to_string())
        };
        assert_eq!(list(None).unwrap(), "api.example.com:443");
        assert_eq!(list(Some("")).unwrap(), "api.example.com:443");
        assert_eq!(list(Some("http://127.0.0.1:80/v1")).unwrap(), "api.example.com:443, 127.0.0.1:80");
        assert_eq!(list(Some("nonsense")), Err(Error::BaseUrl { name: "BASE_URL".into() }));
    }
}
