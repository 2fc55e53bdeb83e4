//! DSSE v1 envelopes: a payload, its type, and signatures over both.
//!
//! Source: the DSSE protocol, <https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::key::{PublicKey, SigningKey};

/// The payload type of an in-toto statement.
pub const IN_TOTO: &str = "application/vnd.in-toto+json";
/// The longest payload read, in bytes.
pub const PAYLOAD_MAX: usize = 16 << 20;
/// The most signatures read.
pub const SIGNATURES_MAX: usize = 1024;

/// A signed payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    pub signatures: Vec<Signature>,
}

/// One signature, and the name of the key it is by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    pub keyid: String,
    pub sig: String,
}

/// An envelope cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("this is no DSSE envelope: {0}")]
    Json(serde_json::Error),
    #[error("the payload is not base64 in its one standard form")]
    Payload,
    #[error("the payload type is `{found}`, not `{expected}`")]
    Type { expected: &'static str, found: String },
    #[error("an envelope with {0} signatures; at most {SIGNATURES_MAX} are read")]
    TooMany(usize),
    #[error("a payload of more than {PAYLOAD_MAX} bytes")]
    TooLarge,
    #[error("signed with {found} signatures by other keys, not once by {expected}")]
    Signer { expected: String, found: usize },
    #[error(transparent)]
    Key(#[from] crate::key::Error),
    #[error("the payload cannot be read: {0}")]
    Content(serde_json::Error),
}

/// What a signature is over (pre-authentication encoding): both lengths and both texts, so that no two pairs of type
/// and payload give the same bytes.
pub fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs a payload with one key.
    pub fn sign(payload_type: &str, payload: &[u8], key: &SigningKey) -> Self {
        let signature = Signature::make(payload_type, payload, key);
        Self {
            payload: STANDARD.encode(payload),
            payload_type: payload_type.to_owned(),
            signatures: vec![signature],
        }
    }

    /// An in-toto statement with signatures made elsewhere.
    pub fn of_statement(statement: &[u8], signatures: Vec<Signature>) -> Self {
        Self { payload: STANDARD.encode(statement), payload_type: IN_TOTO.to_owned(), signatures }
    }

    /// Reads an envelope; its signatures have not been checked.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > 2 * PAYLOAD_MAX {
            return Err(Error::TooLarge);
        }
        let envelope: Self = serde_json::from_slice(bytes).map_err(Error::Json)?;
        if envelope.signatures.len() > SIGNATURES_MAX {
            return Err(Error::TooMany(envelope.signatures.len()));
        }
        envelope.payload()?;
        Ok(envelope)
    }

    #[expect(clippy::expect_used, reason = "a struct of strings always has a JSON form")]
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an envelope has a JSON form")
    }

    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    pub fn payload(&self) -> Result<Vec<u8>, Error> {
        let payload = STANDARD.decode(&self.payload).map_err(|_| Error::Payload)?;
        if payload.len() > PAYLOAD_MAX { Err(Error::TooLarge) } else { Ok(payload) }
    }

    /// Checks that the envelope is signed once, by this key.
    pub fn verify_signature(&self, key: &PublicKey) -> Result<(), Error> {
        match self.signatures.as_slice() {
            [signature] => signature.verify(&self.payload_type, &self.payload()?, key),
            others => Err(Error::Signer { expected: key.key_id(), found: others.len() }),
        }
    }

    /// The payload, once it is known to be of this type and signed once, by this key.
    pub fn open(&self, payload_type: &'static str, key: &PublicKey) -> Result<Vec<u8>, Error> {
        if self.payload_type != payload_type {
            return Err(Error::Type {
                expected: payload_type,
                found: self.payload_type.chars().take(80).collect(),
            });
        }
        self.verify_signature(key)?;
        self.payload()
    }
}

impl Signature {
    /// Signs a payload of a type.
    pub fn make(payload_type: &str, payload: &[u8], key: &SigningKey) -> Self {
        let signature = key.sign(&pae(payload_type, payload));
        Self { keyid: key.public().key_id(), sig: STANDARD.encode(signature) }
    }

    /// Checks that this key made this signature over this payload and type, and that it names the key.
    pub fn verify(&self, payload_type: &str, payload: &[u8], key: &PublicKey) -> Result<(), Error> {
        if self.keyid != key.key_id() {
            return Err(Error::Signer { expected: key.key_id(), found: 1 });
        }
        let signature = STANDARD.decode(&self.sig).map_err(|_| crate::key::Error::Signature)?;
        Ok(key.verify(&pae(payload_type, payload), &signature)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_that_is_signed_is_that_of_the_standard() {
        // The example of the DSSE protocol's own test vector.
        let expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world";
        assert_eq!(pae("http://example.com/HelloWorld", b"hello world"), expected);
    }

    #[test]
    fn an_envelope_opens_only_for_its_key_and_its_type() {
        let (key, other) = (SigningKey::from_seed([1; 32]), SigningKey::from_seed([2; 32]));
        let envelope = Envelope::sign("a", b"payload", &key);
        assert_eq!(envelope.open("a", &key.public()).unwrap(), b"payload");
        assert!(matches!(envelope.open("b", &key.public()), Err(Error::Type { .. })));
        assert!(matches!(envelope.open("a", &other.public()), Err(Error::Signer { .. })));
        let twice = Envelope {
            signatures: [envelope.signatures.clone(), envelope.signatures.clone()].concat(),
            ..envelope
        };
        assert!(matches!(twice.open("a", &key.public()), Err(Error::Signer { found: 2, .. })));
    }

    #[test]
    fn malformed_envelopes_are_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"payload":"*","payloadType":"a","signatures":[]}"#,
            r#"{"payload":"","payloadType":"a","signatures":[],"x":1}"#,
        ] {
            assert!(Envelope::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
