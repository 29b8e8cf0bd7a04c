//! What `fuzz/` tries out and no other crate may call; behind the feature `fuzzing`.

use crate::sign::Signer;

/// Signs with secrets as they stand in a file: the value of `webhook-signature`.
///
/// # Errors
/// What is wrong with the secrets.
pub fn signature(secrets: &str, id: &str, timestamp_s: u64, body: &[u8]) -> Result<String, String> {
    let signer = Signer::parse(secrets)?;
    Ok(signer.signature(id, timestamp_s, body))
}
