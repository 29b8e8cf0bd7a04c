//! Files that are missing, late, or hold something else.

use std::{
    fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

use pgherald_core::{Level, Secret};
use pgherald_sink_kafka::check;
use pgherald_testkit::Certificates;
use serde_json::json;

use crate::{
    access::guarded,
    flow::{blocked, confirmed, context, heals, message, open_error, settings, sink},
    reach::encrypted,
};

/// A file that goes with this value.
struct Written(PathBuf);

impl Written {
    fn nowhere(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("pgherald-{}-{number}-{name}", process::id())))
    }

    fn write(&self, content: impl AsRef<[u8]>) {
        fs::write(&self.0, content).expect("the file is written");
    }

    fn path(&self) -> &str {
        self.0.to_str().expect("a path in UTF-8")
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // It may never have been written.
        let _ = fs::remove_file(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_lies_in_a_file_is_read_at_every_connect() {
    let (kafka, _) = guarded().await;
    kafka.create_topic("t", 1, &[]).await.unwrap();
    kafka.allow_write("app", "t").await.unwrap();
    let brokers = format!("127.0.0.1:{}", kafka.proxied_port());
    let password = Written::nowhere("password");
    let file = json!({Secret::IN_FILE: ["kafka.sasl.password_file", password.path()]});
    let sasl = json!({"mechanism": "PLAIN", "username": "app", "password": file});
    let sink = sink(&brokers, &json!({"topic": "t", "sasl": sasl}), Some(&["a"]));
    let late = blocked(&open_error(&sink).await);
    assert!(late.contains("kafka.sasl.password_file") && late.contains(password.path()), "{late}");
    password.write("wrong\n");
    let refused = blocked(&open_error(&sink).await);
    assert!(refused.contains("the brokers refuse the credentials"), "{refused}");
    password.write("secret\n");
    confirmed(&mut *heals(&sink).await, vec![message(0, "a", None, "0")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_late_or_holds_something_else_blocks_and_is_named_until_it_is_right() {
    let (made, other) = (Certificates::new().unwrap(), Certificates::new().unwrap());
    let kafka = encrypted(&made).await;
    kafka.create_topic("t", 1, &[]).await.unwrap();
    let brokers = format!("127.0.0.1:{}", kafka.proxied_port());
    let [ca, cert, key] = ["ca.pem", "cert.pem", "key.pem"].map(Written::nowhere);
    let tls = json!({"ca_file": ca.path(), "cert_file": cert.path(), "key_file": key.path()});
    let table = json!({"topic": "t", "tls": tls});
    let sink = sink(&brokers, &table, Some(&["a"]));
    let says = async |words: [&str; 2]| {
        let text = blocked(&open_error(&sink).await);
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
    };
    says(["kafka.tls.ca_file: ", ca.path()]).await;
    let context = context(Some(&["a"]));
    let findings = check(&settings(&brokers, &table, &context), &context, "kafka", None).await;
    let told = |it: &pgherald_core::Finding| {
        it.level == Level::Error && it.subject == "kafka.tls.ca_file" && it.text.contains(ca.path())
    };
    assert!(findings.iter().any(told), "{findings:?}");

    let named = format!("no certificate in {}", ca.path());
    for (content, why) in [
        (Vec::new(), "it is empty"),
        (b"\x30\x82\x01\x00".to_vec(), "it is DER"),
        (made.key_pem().into(), "it holds a private key"),
        (format!("\u{feff}{}", made.authority_pem()).into(), "byte order mark"),
    ] {
        ca.write(content);
        says([&named, why]).await;
    }
    ca.write(made.authority_pem());
    says(["kafka.tls.cert_file: ", cert.path()]).await;
    cert.write(made.certificate_pem());
    key.write("-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n");
    says(["kafka.tls.key_file: a key that is encrypted", "ssl.key.password"]).await;
    key.write(other.key_pem());
    says(["the certificates or the key are of no use", "tls table"]).await;
    ca.write(other.authority_pem());
    key.write(made.key_pem());
    says(["no TLS session with the brokers", "tls.ca_file"]).await;
    ca.write(made.authority_pem());
    confirmed(&mut *heals(&sink).await, vec![message(0, "a", None, "0")]).await;
}
