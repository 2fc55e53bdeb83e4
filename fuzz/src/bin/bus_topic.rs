//! Topics and patterns: what is a topic matches itself as a pattern.

#![no_main]

use quorate_bus::{Pattern, Topic};

libfuzzer_sys::fuzz_target!(|input: (&str, &str)| {
    let (topic, pattern) = input;
    let topic = Topic::new(topic);
    if let Ok(topic) = &topic {
        assert!(Pattern::new(topic.as_str()).is_ok_and(|pattern| pattern.matches(topic.as_str())));
    }
    if let (Ok(topic), Ok(pattern)) = (&topic, Pattern::new(pattern)) {
        pattern.matches(topic.as_str());
    }
});
