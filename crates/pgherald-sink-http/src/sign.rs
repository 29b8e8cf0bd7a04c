//! Standard Webhooks signatures: <https://www.standardwebhooks.com>.

use std::sync::Arc;

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose},
};
use ring::hmac;

/// What every secret begins with.
const PREFIX: &str = "whsec_";
/// What the specification asks of a secret at least.
pub(crate) const SECRET_BYTES_MIN: usize = 24;

/// Base64 with or without padding, as secrets are handed around.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys that sign, each of them every request: while a secret is being replaced there are two.
#[derive(Clone, Default)]
pub(crate) struct Signer {
    keys: Arc<[hmac::Key]>,
    /// The bytes of the shortest secret.
    pub(crate) shortest: Option<usize>,
}

impl Signer {
    /// # Errors
    /// What is wrong, without the secret.
    pub(crate) fn parse(secrets: &str) -> Result<Self, String> {
        let mut keys = Vec::new();
        let mut shortest = None;
        for (place, secret) in secrets.split_whitespace().enumerate() {
            let bytes = decode(secret).map_err(|why| format!("secret {} {why}", place + 1))?;
            shortest = Some(shortest.map_or(bytes.len(), |least: usize| least.min(bytes.len())));
            keys.push(hmac::Key::new(hmac::HMAC_SHA256, &bytes));
        }
        if keys.is_empty() {
            return Err("is empty: write whsec_<base64>, or take the key out".to_owned());
        }
        Ok(Self { keys: keys.into(), shortest })
    }

    pub(crate) fn signs(&self) -> bool {
        !self.keys.is_empty()
    }

    /// How long a signature is, at most.
    pub(crate) fn signature_bytes(&self) -> usize {
        // A version, 32 bytes in base64, and a blank.
        self.keys.len() * 48
    }

    /// The value of `webhook-signature`: one signature for each key, in the order of the secrets.
    pub(crate) fn signature(&self, id: &str, timestamp_s: u64, body: &[u8]) -> String {
        let signature = |key: &hmac::Key| {
            let mut signing = hmac::Context::with_key(key);
            signing.update(format!("{id}.{timestamp_s}.").as_bytes());
            signing.update(body);
            format!("v1,{}", general_purpose::STANDARD.encode(signing.sign()))
        };
        self.keys.iter().map(signature).collect::<Vec<_>>().join(" ")
    }
}

fn decode(secret: &str) -> Result<Vec<u8>, &'static str> {
    let text = secret.strip_prefix(PREFIX).ok_or("does not begin with whsec_: write it whole")?;
    match BASE64.decode(text) {
        Ok(bytes) if bytes.is_empty() => Err("is empty behind whsec_: write it whole"),
        Ok(bytes) => Ok(bytes),
        Err(_) => Err("is not base64 behind whsec_: write it whole"),
    }
}

#[cfg(test)]
mod tests {
    use standardwebhooks::Webhook;

    use super::*;

    const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLSwx";
    const NEW: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl";

    fn signer(text: &str) -> Result<Signer, String> {
        Signer::parse(text)
    }

    /// The example that the specification's own library tests itself with.
    #[test]
    fn the_known_example_is_signed_as_everybody_signs_it() {
        let signature = signer("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD").unwrap().signature(
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            1_649_367_553,
            br#"{"email":"test@example.com","username":"test_user"}"#,
        );
        assert_eq!(signature, "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=");
    }

    #[test]
    fn every_key_signs_and_whoever_knows_one_of_them_can_verify() {
        let signature = signer(&format!("{OLD}\n {NEW} ")).unwrap().signature("m-1", 7, b"{}");
        for secret in [OLD, NEW] {
            let theirs = Webhook::new(secret).unwrap().sign("m-1", 7, b"{}").unwrap();
            assert!(signature.split(' ').any(|ours| ours == theirs), "{signature} {theirs}");
        }
        assert_eq!(signature.split(' ').count(), 2);
    }

    #[test]
    fn a_wrong_secret_is_counted_and_not_quoted() {
        for (text, why) in [
            (" \n", "is empty"),
            ("hunter2", "secret 1 does not begin"),
            (&*format!("{OLD} whsec_hunter2!"), "secret 2 is not base64"),
            ("whsec_", "secret 1 is empty"),
        ] {
            let Err(said) = signer(text) else { panic!("{text}") };
            assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
        }
    }
}
