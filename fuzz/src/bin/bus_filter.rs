//! Filters: any text is a filter or an error, and a filter accepts or refuses any message.

#![no_main]

use quorate_bus::Filter;
use quorate_bus::Message;
use quorate_bus::filter::View;

libfuzzer_sys::fuzz_target!(|input: (&str, &[u8])| {
    let (text, payload) = input;
    if let Ok(filter) = Filter::new(text) {
        let message = Message::new(payload).with_header("role", "tester").with_header("n", "3");
        filter.accepts(&View::new("a.b", &message));
    }
});
