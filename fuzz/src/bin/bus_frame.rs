//! Frames of the bus' wire: read without a panic, and what is read is written again as it was.

#![no_main]

use quorate_bus::wire::frame::{ToClient, ToServer, length};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = length(bytes, 1 << 20);
    if let Ok(frame) = ToServer::decode(bytes) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        // JSON is written in one way and read in many.
        if !matches!(frame, ToServer::Subscribe { .. }) {
            assert_eq!(&again[4..], bytes);
        }
    }
    if let Ok(frame) = ToClient::decode(bytes) {
        let mut again = Vec::new();
        frame.encode(&mut again);
        assert_eq!(&again[4..], bytes);
    }
});
