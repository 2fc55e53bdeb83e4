//! Telling what an agent was refused to connect to.

use quorate_agents::egress::Refused;
use quorate_base::{AgentId, TaskId};

use super::Job;
use crate::record::Record;

impl Job {
    /// A record for each kind of refusal, of which there is a bounded number in each launch. A host may be a secret with a
    /// dot behind it: what holds one is blotted out.
    pub(super) fn tell_refused(
        &self,
        agent: &AgentId,
        task: &TaskId,
        attempt: u32,
        refused: Vec<Refused>,
        secrets: &[Vec<u8>],
    ) {
        for Refused { host, port, reason, count } in refused {
            let host = if holds_one(&host, secrets) { "[redacted]".to_owned() } else { host };
            let (agent, task) = (agent.clone(), task.clone());
            self.tell(Record::EgressRefused { agent, task, attempt, host, port, reason, count });
        }
    }
}

/// Hosts are in small letters, whatever their secrets are in, and hold no more of them than letters, digits and hyphens.
fn holds_one(host: &str, secrets: &[Vec<u8>]) -> bool {
    let small = |secret: &Vec<u8>| secret.to_ascii_lowercase();
    secrets.iter().map(small).any(|secret| host.as_bytes().windows(secret.len()).any(|part| part == secret))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_holds_a_secret_is_known_whatever_its_letters() {
        let secrets = [b"Hunter2-x".to_vec()];
        assert!(holds_one("a.hunter2-x.evil.example.com", &secrets));
        assert!(!holds_one("hunter2.example.com", &secrets));
    }
}
