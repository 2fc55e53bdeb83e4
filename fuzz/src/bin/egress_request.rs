//! What an agent says to its proxy: nothing makes the reader panic, and what is sent on is one head with one host.

#![no_main]

use quorate_agents::egress::request::{Request, head_end, parse};
use quorate_agents::egress::{HostList, Target};

libfuzzer_sys::fuzz_target!(|input: (&[u8], &str)| {
    let (head, text) = input;
    let _ = head_end(head);
    if let Ok(Request::Plain(plain)) = parse(head) {
        assert_eq!(head_end(&plain.head), Ok(Some(plain.head.len())));
        assert_eq!(Target::parse(&plain.target.to_string(), None), Ok(plain.target));
    }
    if let Ok(list) = HostList::parse([text]) {
        assert!(HostList::parse([list.to_string()]).is_ok());
    }
});
