//! Secrets: where they stand, how they are read from files, and what must never be shown.

use std::fs;

use pgherald_core::{NamedFile, Secret};
use serde_json::{Value, json};

use super::{key::Key, report::Report, tree::Tree};

/// May hold a secret; often it does not.
const HTTP_HEADER: &str = "pipelines.*.sinks.*.http.headers.*";

/// Addresses whose path or parameters are a secret, as those of chat services are.
const WEBHOOKS: [&str; 2] = ["pipelines.*.sinks.*.http.url", "pipelines.*.sinks.*.http.gap_url"];

/// What the program says by itself, about any flow.
const WORDS: [&str; 11] = [
    "pgherald",
    "postgres",
    "attaching",
    "standby",
    "running",
    "paused",
    "stalled",
    "blocked",
    "halted",
    "draining",
    "ready",
];

/// A shorter part of a secret, or value of a header, is rather an ordinary word, which log lines
/// need.
const WORD_BYTES_MAX: usize = 12;

/// The secret keys. Each secret key `x`, librdkafka's too, also exists as `x_file`.
const SECRETS: [&str; 10] = [
    "postgres.url",
    "admin.token",
    "pipelines.*.sinks.*.kafka.sasl.password",
    "pipelines.*.sinks.*.nats.password",
    "pipelines.*.sinks.*.nats.token",
    "pipelines.*.sinks.*.http.bearer_token",
    "pipelines.*.sinks.*.http.secret",
    WEBHOOKS[0],
    WEBHOOKS[1],
    HTTP_HEADER,
];

/// Those whose file is read where the secret is used, at every connect, and not here.
const READ_WHEN_USED: [&str; 10] = [
    "postgres.url",
    "admin.token",
    "pipelines.*.sinks.*.kafka.sasl.password",
    "pipelines.*.sinks.*.nats.password",
    "pipelines.*.sinks.*.nats.token",
    "pipelines.*.sinks.*.http.bearer_token",
    "pipelines.*.sinks.*.http.secret",
    WEBHOOKS[0],
    WEBHOOKS[1],
    HTTP_HEADER,
];

/// What a name of a librdkafka option holds if its value is secret.
const SECRET_WORDS: [&str; 6] = ["password", "passphrase", "secret", "token", "credential", "pem"];

/// Whether the value of that key is secret.
pub(super) fn is_secret(key: &Key) -> bool {
    let of_options = key.0.len() == 7 && key.0[5] == "options";
    SECRETS.iter().any(|pattern| key.is(pattern))
        || (of_options && SECRET_WORDS.iter().any(|word| key.last().contains(word)))
}

/// Whether the value of that key is the address of a webhook.
pub(super) fn is_webhook(key: &Key) -> bool {
    WEBHOOKS.iter().any(|pattern| key.is(pattern))
}

/// A secret that is read from its file when it is used.
#[derive(Clone, Debug)]
pub(crate) struct SecretFile {
    secret: Key,
    file: NamedFile,
}

impl SecretFile {
    /// The texts of its content that must not be shown.
    pub(crate) fn secrets(&self) -> Vec<String> {
        let mut texts = Texts::default();
        texts.take(&self.secret, &self.file.text().unwrap_or_default());
        texts.secrets()
    }
}

/// Puts the content of every `x_file` in the place of `x`, or names the file there if it is to be
/// read when it is used; returns those.
pub(super) fn read_files(tree: &mut Tree, report: &mut Report) -> Vec<SecretFile> {
    let named = |key: &Key| {
        let name = key.last().strip_suffix("_file")?;
        let secret = key.sibling(name);
        is_secret(&secret).then_some(secret)
    };
    let found: Vec<(Key, Key, Value)> = tree
        .leaves()
        .into_iter()
        .filter_map(|(key, value)| named(&key).map(|secret| (key, secret, value.clone())))
        .collect();
    let mut later = Vec::new();
    for (key, secret, file) in found {
        tree.remove(&key);
        let path = match path(&file, &secret, tree) {
            Ok(path) => path,
            Err(text) => {
                report.add(key, text);
                report.settle(secret);
                continue;
            }
        };
        if READ_WHEN_USED.iter().any(|pattern| secret.is(pattern)) {
            let name = key.to_string();
            tree.put(&secret, json!({ Secret::IN_FILE: [name, path] }));
            later.push(SecretFile { secret, file: NamedFile::new(name, path) });
            continue;
        }
        match content(path, secret.last()) {
            Ok(text) => tree.put(&secret, Value::String(text)),
            Err(text) => {
                report.add(key, text);
                report.settle(secret);
            }
        }
    }
    later
}

fn path<'a>(file: &'a Value, secret: &Key, tree: &Tree) -> Result<&'a str, String> {
    let Some(file) = file.as_str() else {
        return Err("the path of a file is needed here, as a text".to_owned());
    };
    if tree.get(secret).is_some() {
        let name = secret.last();
        return Err(format!("`{name}` is set too; keep one of the two"));
    }
    Ok(file)
}

fn content(file: &str, name: &str) -> Result<String, String> {
    let text = fs::read_to_string(file).map_err(|error| {
        let cause = match error.kind() {
            std::io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
            _ => error.to_string(),
        };
        format!("cannot read {file:?}: {cause}; name a file that this user can read")
    })?;
    match text.trim_end_matches(['\n', '\r']) {
        "" => Err(format!("{file:?} is empty; put the {name} into it")),
        secret => Ok(secret.to_owned()),
    }
}

/// Every text of the tree that must never be shown.
///
/// A text that also stands in the configuration in the open (a password that equals the user's
/// name, or a pipeline's) cannot be told from it, and is not in the list.
pub(super) fn collect(tree: &Tree) -> Vec<String> {
    let mut texts = Texts::default();
    for (key, value) in tree.leaves() {
        // Names of pipelines and sinks stand in every log line and metric.
        texts.open.extend(key.0.iter().cloned());
        match value {
            Value::String(text) => texts.take(&key, text),
            Value::Array(list) => {
                list.iter().filter_map(Value::as_str).for_each(|text| texts.take(&key, text));
            }
            _ => {}
        }
    }
    texts.secrets()
}

/// Texts told apart.
#[derive(Default)]
struct Texts {
    secrets: Vec<String>,
    open: Vec<String>,
}

impl Texts {
    fn take(&mut self, key: &Key, text: &str) {
        if is_webhook(key) {
            self.secrets.extend(super::url::webhook_secrets(text).into_iter().map(str::to_owned));
        }
        match super::url::parts(text) {
            Some(parts) => {
                self.secrets.extend(parts.secrets.into_iter().map(str::to_owned));
                self.open.extend(parts.open.into_iter().map(str::to_owned));
            }
            None if key.is(HTTP_HEADER) && text.len() < WORD_BYTES_MAX => {}
            None if is_secret(key) => {
                self.secrets.push(text.to_owned());
                // Several in one text, or one behind the name of its kind.
                let parts = text.split_whitespace().filter(|it| it.len() >= WORD_BYTES_MAX);
                self.secrets.extend(parts.map(str::to_owned));
            }
            None => self.open.push(text.to_owned()),
        }
    }

    fn secrets(self) -> Vec<String> {
        let Self { mut secrets, mut open } = self;
        open.extend(WORDS.map(str::to_owned));
        let decoded: Vec<String> = secrets.iter().map(|text| super::url::decode(text)).collect();
        secrets.extend(decoded);
        secrets.retain(|text| !text.is_empty() && !open.contains(text));
        secrets.sort();
        secrets.dedup();
        secrets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Tree {
        Tree::merge(text, Default::default()).unwrap()
    }

    #[test]
    fn a_file_takes_the_place_of_the_secret() {
        let path = std::env::temp_dir().join(format!("pgherald-secret-{}", std::process::id()));
        fs::write(&path, "postgres://a:hunter2@localhost/b\n").unwrap();
        let mut tree = tree(&format!("[postgres]\nurl_file = {path:?}"));
        let mut report = Report::default();
        let later = read_files(&mut tree, &mut report);
        assert!(report.is_empty());
        assert_eq!(
            tree.get(&Key::dotted("postgres.url")).unwrap(),
            &json!({ Secret::IN_FILE: ["postgres.url_file", path] })
        );
        assert!(tree.get(&Key::dotted("postgres.url_file")).is_none());
        assert_eq!(later[0].secrets(), ["hunter2"]);
        fs::remove_file(&path).unwrap();
        assert!(later[0].secrets().is_empty());
    }

    #[test]
    fn a_secret_option_may_stand_in_a_file_too() {
        let path = std::env::temp_dir().join(format!("pgherald-option-{}", std::process::id()));
        fs::write(&path, "hunter2\n").unwrap();
        for written in ["ssl.key.password", "ssl_key_password"] {
            let mut tree = tree(&format!(
                "[pipelines.a.sinks.b.kafka.options]\n\"{written}_file\" = {path:?}"
            ));
            read_files(&mut tree, &mut Report::default());
            let key = Key::dotted("pipelines.a.sinks.b.kafka.options").child(written);
            assert_eq!(tree.get(&key).unwrap(), "hunter2");
            assert_eq!(collect(&tree), ["hunter2"]);
        }
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said_by_its_key() {
        let sink = "pipelines.a.sinks.b";
        let mut tree = tree(&format!(
            "[postgres]\nurl = \"x\"\nurl_file = \"y\"\n[{sink}.nats]\npassword_file = 3\n\
             token_file = \"/does/not/exist\"\n[{sink}.kafka.options]\n\
             \"sasl.client.secret_file\" = \"/dev/null\"\n\
             \"ssl.key.password_file\" = \"/does/not/exist\"\n\
             [{sink}.nats.tls]\nkey_file = \"stays\""
        ));
        let mut report = Report::default();
        let later = read_files(&mut tree, &mut report);
        assert_eq!(later.len(), 1, "a token that is read when it is used may come late");
        let problems = report.into_problems();
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(problems.len(), 4, "{texts:#?}");
        assert!(texts[0].contains("secret_file\": \"/dev/null\" is empty"), "{texts:#?}");
        assert!(texts[1].contains("password_file\": cannot read"), "{texts:#?}");
        assert!(texts[2].contains("nats.password_file: the path of a file"), "{texts:#?}");
        assert!(texts[3].contains("postgres.url_file: `url` is set too"), "{texts:#?}");
    }

    #[test]
    fn secrets_are_found_wherever_they_stand() {
        let sink = "pipelines.a.sinks.b";
        let secrets = collect(&tree(&format!(
            "[postgres]\nurl = \"postgres://app:p%40ss@db/app?password=second\"\n\
             [{sink}.nats]\nservers = [\"nats://third@h\", \"tls://u:fourth@h\"]\ntoken = \"fifth\"\n\
             user = \"app\"\npassword = \"app\"\n\
             [{sink}.kafka.options]\n\"ssl.key.password\" = \"sixth\"\n\"client.id\" = \"open\""
        )));
        for secret in ["p%40ss", "p@ss", "second", "third", "fourth", "fifth", "sixth"] {
            assert!(secrets.iter().any(|s| s == secret), "{secret} in {secrets:?}");
        }
        assert!(!secrets.iter().any(|s| s == "app" || s == "open"), "{secrets:?}");
    }

    #[test]
    fn the_address_of_a_webhook_is_a_secret_and_its_host_is_not() {
        let http = "[pipelines.orders.sinks.hook.http]";
        let secrets = collect(&tree(&format!(
            "{http}\nurl = \"https://hooks.example/services/T0/B0/s3cr3t?sig=5ig&v=1\"\n\
             gap_url = \"https://u:pw99@hooks.example/gaps\"\nbearer_token = \"orders\""
        )));
        for secret in
            ["/services/T0/B0/s3cr3t?sig=5ig&v=1", "/services/T0/B0/s3cr3t", "/gaps", "pw99"]
        {
            assert!(secrets.iter().any(|s| s == secret), "{secret} in {secrets:?}");
        }
        for open in ["orders", "hooks.example", "https://hooks.example", "1", "/"] {
            assert!(!secrets.iter().any(|s| s == open), "{open} in {secrets:?}");
        }
    }
}
