//! The forms in which a secret may stand in an output: programs encode what they print.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::spec::SECRET_LEN_MIN;

/// What programs leave as it is in an address, beside letters and digits: in a part of one, in its path, and in all of it.
const PLAIN: [&[u8]; 5] = [b"-._~", b"-._", b"-._~/", b"-_.!~*'()", b"-_.!~*'();/?:@&=+$,#"];

/// A line of a secret shorter than this does not count as one.
const LINE_MIN: usize = 16;

/// The secret itself, and what it looks like in an address, in JSON, in base64 (wherever in the encoded text it begins)
/// and in hexadecimal; of a secret with several lines, each long one too.
pub(crate) fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let whole = [secret];
    let lines =
        secret.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| line.len() >= LINE_MIN);
    for part in whole.into_iter().chain(lines) {
        all.push(part.to_vec());
        all.extend(PLAIN.iter().flat_map(|plain| percent(part, plain)));
        all.extend(json(part));
        all.push(hexadecimal(part, b"0123456789abcdef"));
        all.push(hexadecimal(part, b"0123456789ABCDEF"));
        for offset in 0..3 {
            all.extend(base64(part, offset));
        }
    }
    all.retain(|form| form.len() >= SECRET_LEN_MIN);
    all.sort();
    all.dedup();
    all
}

fn percent(secret: &[u8], plain: &[u8]) -> [Vec<u8>; 2] {
    let encode = |other: &dyn Fn(u8) -> String| {
        let one = |byte: &u8| match byte.is_ascii_alphanumeric() || plain.contains(byte) {
            true => vec![*byte],
            false => other(*byte).into_bytes(),
        };
        secret.iter().flat_map(one).collect()
    };
    [encode(&|byte| format!("%{byte:02X}")), encode(&|byte| format!("%{byte:02x}"))]
}

fn json(secret: &[u8]) -> Option<Vec<u8>> {
    let quoted = serde_json::to_vec(std::str::from_utf8(secret).ok()?).ok()?;
    Some(quoted[1..quoted.len() - 1].to_vec())
}

fn hexadecimal(secret: &[u8], digits: &[u8; 16]) -> Vec<u8> {
    let digit = |value: u8| digits[usize::from(value & 15)];
    secret.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The part of the encoded text that does not depend on what stands around a secret that begins at this place of three.
fn base64(secret: &[u8], offset: usize) -> Vec<Vec<u8>> {
    let padded = [&vec![0; offset][..], secret].concat();
    // Characters that also hold bits of what is before, and of what is behind.
    let before = (offset * 8).div_ceil(6);
    let whole = padded.len() * 8 / 6;
    let inner = |text: String| text.as_bytes().get(before..whole).unwrap_or_default().to_vec();
    vec![inner(STANDARD_NO_PAD.encode(&padded)), inner(URL_SAFE_NO_PAD.encode(&padded))]
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    use proptest::prelude::*;

    use super::*;

    fn blotted(text: &[u8], secret: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        quorate_agents::redact_copy(&mut &text[..], &mut out, &forms(secret)).unwrap();
        out
    }

    #[test]
    fn each_line_of_a_key_with_several_is_a_secret() {
        let key = b"-----BEGIN KEY-----\nMC4CAQAwBQYDK2VwBCIEIGxl\n-----END KEY-----";
        assert_eq!(blotted(b"x MC4CAQAwBQYDK2VwBCIEIGxl y", key), b"x [redacted] y");
    }

    proptest! {
        #[test]
        fn a_secret_is_found_however_a_program_encodes_it(
            secret in "[ -~]{12,40}", before in "[ -~]{0,5}", after in "[ -~]{0,5}"
        ) {
            let around = format!("{before}{secret}{after}");
            let gone = |text: &str, needle: &str| !String::from_utf8_lossy(&blotted(text.as_bytes(), secret.as_bytes())).contains(needle);
            prop_assert!(gone(&around, &secret));
            let json = serde_json::to_string(&around).unwrap();
            let inner = serde_json::to_string(&secret).unwrap();
            prop_assert!(gone(&json, &inner[1..inner.len() - 1]));
            for encoded in [STANDARD.encode(&around), URL_SAFE.encode(&around)] {
                // What is left of it must not be decoded to the secret: its middle is not there any more.
                let left = blotted(encoded.as_bytes(), secret.as_bytes());
                prop_assert!(memmem(&left, b"[redacted]"), "{}", String::from_utf8_lossy(&left));
            }
        }
    }

    fn memmem(text: &[u8], needle: &[u8]) -> bool {
        text.windows(needle.len()).any(|window| window == needle)
    }
}
