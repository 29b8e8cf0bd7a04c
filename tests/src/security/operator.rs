//! A NATS operator, its accounts and a user: what `nsc` would make.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};

/// What the server and a user need.
pub(super) struct Operator {
    /// Lines of the server's configuration.
    pub(super) config: String,
    /// A credentials file.
    pub(super) credentials: String,
}

impl Operator {
    /// A new one with one user, whose account may use JetStream.
    pub(super) fn new() -> Self {
        let (operator, system, account, user) = (
            KeyPair::new_operator(),
            KeyPair::new_account(),
            KeyPair::new_account(),
            KeyPair::new_user(),
        );
        let by = token(&operator, &operator, json!({ "type": "operator", "version": 2 }));
        let system_token = token(&operator, &system, account_claims(0));
        let account_token = token(&operator, &account, account_claims(-1));
        let limits = json!({ "subs": -1, "data": -1, "payload": -1, "pub": {}, "sub": {},
            "type": "user", "version": 2 });
        let user_token = token(&account, &user, limits);
        let (system, account) = (system.public_key(), account.public_key());
        Self {
            config: format!(
                "operator: {by}\nsystem_account: {system}\nresolver: MEMORY\n\
                 resolver_preload: {{\n{system}: {system_token}\n{account}: {account_token}\n}}"
            ),
            credentials: format!(
                "-----BEGIN NATS USER JWT-----\n{user_token}\n------END NATS USER JWT------\n\n\
                 -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
                user.seed().expect("a new key has a seed")
            ),
        }
    }
}

fn account_claims(storage: i64) -> Value {
    json!({
        "limits": { "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1,
            "wildcards": true, "conn": -1, "leaf": -1, "mem_storage": storage,
            "disk_storage": storage, "streams": -1, "consumer": -1 },
        "default_permissions": { "pub": {}, "sub": {} },
        "type": "account", "version": 2
    })
}

/// A signed statement of `issuer` about `subject`.
fn token(issuer: &KeyPair, subject: &KeyPair, claims: Value) -> String {
    let header = json!({ "typ": "JWT", "alg": "ed25519-nkey" });
    let body = json!({ "jti": subject.public_key(), "iat": 1_700_000_000,
        "iss": issuer.public_key(), "sub": subject.public_key(), "name": "test", "nats": claims });
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", part(&header), part(&body));
    let signature = issuer.sign(signed.as_bytes()).expect("a new key signs");
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}
