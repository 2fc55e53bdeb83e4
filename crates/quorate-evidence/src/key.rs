//! Ed25519 keys and their forms on disk and in envelopes.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::Signer as _;
use quorate_base::Digest;

/// What a secret key's file begins with.
const SECRET_PREFIX: &str = "quorate-ed25519-seed-v1:";
/// The DER of a SubjectPublicKeyInfo for Ed25519 up to the key itself (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
const PEM_BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const PEM_END: &str = "-----END PUBLIC KEY-----";

/// A key or signature cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("this is no secret key of Quorate")]
    Secret,
    #[error("this is no Ed25519 public key")]
    Public,
    #[error("the signature does not fit")]
    Signature,
}

/// A secret key. It is wiped from memory when dropped, and never printed.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// The key that belongs to 32 random bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The text of the key's file.
    pub fn to_secret_text(&self) -> String {
        format!("{SECRET_PREFIX}{}\n", STANDARD.encode(self.0.to_bytes()))
    }

    pub fn from_secret_text(text: &str) -> Result<Self, Error> {
        let seed = text.trim_end().strip_prefix(SECRET_PREFIX).ok_or(Error::Secret)?;
        let seed = STANDARD.decode(seed).map_err(|_| Error::Secret)?;
        Ok(Self::from_seed(seed.try_into().map_err(|_| Error::Secret)?))
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs bytes; for use on an envelope's pre-authentication encoding only.
    pub(crate) fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public().key_id())
    }
}

/// A public key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(ed25519_dalek::VerifyingKey);

impl PublicKey {
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, Error> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(bytes).map_err(|_| Error::Public)?;
        // A weak key verifies signatures nobody made.
        if key.is_weak() { Err(Error::Public) } else { Ok(Self(key)) }
    }

    pub fn to_hex(&self) -> String {
        Digest::from_bytes(self.0.to_bytes()).to_string()
    }

    pub fn from_hex(hex: &str) -> Result<Self, Error> {
        let bytes: Digest = hex.parse().map_err(|_| Error::Public)?;
        Self::from_bytes(bytes.as_bytes())
    }

    /// The key's name in envelopes, as the TUF and in-toto tools compute it: SHA-256 of the key's canonical JSON.
    pub fn key_id(&self) -> String {
        let json = format!(
            r#"{{"keytype":"ed25519","keyval":{{"public":"{}"}},"scheme":"ed25519"}}"#,
            self.to_hex()
        );
        Digest::of(json.as_bytes()).to_string()
    }

    /// SubjectPublicKeyInfo in PEM, which other tools read.
    pub fn to_pem(&self) -> String {
        let der = [SPKI_PREFIX.as_slice(), self.0.as_bytes()].concat();
        format!("{PEM_BEGIN}\n{}\n{PEM_END}\n", STANDARD.encode(der))
    }

    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let body = pem
            .trim()
            .strip_prefix(PEM_BEGIN)
            .and_then(|rest| rest.strip_suffix(PEM_END))
            .ok_or(Error::Public)?;
        let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        let der = STANDARD.decode(body).map_err(|_| Error::Public)?;
        let raw = der.strip_prefix(SPKI_PREFIX.as_slice()).ok_or(Error::Public)?;
        Self::from_bytes(raw.try_into().map_err(|_| Error::Public)?)
    }

    /// Checks a signature by the strict rules, under which it cannot be altered and still fit.
    pub(crate) fn verify(&self, bytes: &[u8], signature: &[u8]) -> Result<(), Error> {
        let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| Error::Signature)?;
        self.0.verify_strict(bytes, &signature).map_err(|_| Error::Signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_what_they_write() {
        let key = SigningKey::from_seed([7; 32]);
        let again = SigningKey::from_secret_text(&key.to_secret_text()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(PublicKey::from_pem(&key.public().to_pem()), Ok(key.public()));
        assert_eq!(PublicKey::from_hex(&key.public().to_hex()), Ok(key.public()));
    }

    #[test]
    fn a_secret_key_is_never_printed() {
        let key = SigningKey::from_seed([7; 32]);
        let printed = format!("{key:?}");
        assert!(!printed.contains("07070707") && !printed.contains(&STANDARD.encode([7; 32])), "{printed}");
    }

    #[test]
    fn malformed_and_weak_keys_are_refused() {
        assert_eq!(PublicKey::from_bytes(&[0; 32]).err(), Some(Error::Public));
        for pem in
            ["", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
        {
            assert_eq!(PublicKey::from_pem(pem).err(), Some(Error::Public));
        }
        for text in ["", "quorate-ed25519-seed-v1:", "quorate-ed25519-seed-v1:AAAA", "ssh-ed25519 AAAA"] {
            assert!(SigningKey::from_secret_text(text).is_err());
        }
    }
}
