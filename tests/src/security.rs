//! TLS and authentication on real servers: messages go through, and whatever is wrong is said
//! once, clearly, without a secret, and waited for.

mod http;
mod kafka;
mod nats;
mod operator;
mod postgres;

use std::{
    fs,
    path::{Path, PathBuf},
};

use pgherald_testkit::{Bridge, Certificates, Scratch, eventually};

use crate::{
    command_line::{pgherald, said},
    knock::carries,
    stage::SOON,
};

/// Every secret here ends in `hunter22`.
const PASSWORD: &str = "right-hunter22";
/// So many refused attempts show that it goes on trying.
const ATTEMPTS: usize = 2;

/// What a client needs to trust a server and to prove itself, as files that a test may change.
struct Files {
    scratch: Scratch,
}

impl Files {
    fn new() -> Self {
        Self { scratch: Scratch::new("tls").expect("a directory") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a file can be written");
        path.display().to_string()
    }

    /// `ca.crt`, what the client trusts.
    fn trust(&self, made: &Certificates) -> String {
        self.write("ca.crt", made.authority_pem())
    }
}

/// Something is wrong: how that shows.
struct Trouble<'a> {
    /// In the log, in `/readyz`, and in `check`: each of them.
    words: &'a [&'a str],
    /// The dotted key that `check` names.
    key: &'a str,
    /// In what `check` advises.
    fix: &'a str,
    /// What the server logs for each attempt.
    refusal: &'a str,
}

impl Trouble<'_> {
    fn is_in(&self, text: &str) -> bool {
        self.words.iter().all(|word| text.contains(word))
    }

    /// Waits until it shows; `log` is the server's.
    async fn shows(&self, bridge: &Bridge, log: impl Fn() -> String) {
        let told = || async {
            let ready = bridge.readyz().await;
            ready.is_ok_and(|it| it.status == 503 && self.is_in(&it.body)) || bridge.ended()
        };
        if let Err(error) = eventually(&format!("{:?}", self.words), SOON, told).await {
            panic!("{error}\n{}\nserver:\n{}", bridge.explain().await, log());
        }
        let attempts = || log().matches(self.refusal).count();
        let before = attempts();
        let again = || async { attempts() >= before + ATTEMPTS };
        if let Err(error) = eventually("it tries again", SOON, again).await {
            panic!("{error}\n{}\nserver:\n{}", bridge.explain().await, log());
        }
        assert!(!bridge.ended(), "{}", bridge.log());
        assert_eq!(bridge.livez().await.unwrap().status, 200);
        let text = bridge.log();
        assert_no_secret(&text);
        let text = &text[text.rfind("flow is running").unwrap_or(0)..];
        assert!(self.times_said(text, "pgherald_listener::hub") <= 1, "{text}");
        assert_eq!(self.times_said(text, "pgherald_core::flow"), 1, "{:?}:\n{text}", self.words);
        for page in ["/", "/status", "/readyz"] {
            assert_no_secret(&bridge.get(page).await.unwrap().body);
        }
        self.is_found(&bridge.config_file()).await;
    }

    /// The database's session and the flow have a state each, and say once why it changed.
    fn times_said(&self, log: &str, by: &str) -> usize {
        let said = |line: &&str| line.contains("WARN") && line.contains(by) && self.is_in(line);
        log.lines().filter(said).count()
    }

    /// `check` names it and the remedy.
    async fn is_found(&self, config: &Path) {
        let config = config.to_str().expect("a path of ours");
        let said = said(&mut pgherald(&["--config", config, "check"]).await).await;
        assert_eq!(said.code, Some(1), "{}", said.all());
        assert_no_secret(&said.all());
        let errors: Vec<_> = said.out.lines().filter(|line| line.starts_with("error ")).collect();
        assert_eq!(errors.len(), 1, "{}", said.all());
        let (finding, fix) = errors[0].split_once(" \u{2014} ").expect("a remedy");
        assert!(finding.contains(&format!(" {} ", self.key)), "{}", errors[0]);
        assert!(self.is_in(errors[0]), "{}", errors[0]);
        assert!(fix.contains(self.fix), "{}", errors[0]);
    }
}

fn assert_no_secret(text: &str) {
    for secret in ["hunter22", "PRIVATE KEY", "-----BEGIN"] {
        let shown = text.lines().find(|line| line.contains(secret));
        assert_eq!(shown, None, "{secret} is shown");
    }
}
