//! Whole configurations: everything at once, nothing twice, no secret.

use std::{ffi::OsString, fs, path::PathBuf};

use super::{Environment, Loaded, Refused, load};

/// A file that is gone when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str, text: &str) -> Self {
        let file = format!("pgherald-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(file);
        fs::write(&path, text).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn loaded(name: &str, text: &str, variables: &[(&str, &str)]) -> Result<Loaded, Refused> {
    let file = Scratch::new(name, text);
    let pair = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
    load(Some(&file.0), &Environment::of(variables.iter().map(pair)))
}

fn problems(name: &str, text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match loaded(name, text, variables) {
        Ok(_) => Vec::new(),
        Err(refused) => refused.problems.iter().map(ToString::to_string).collect(),
    }
}

const GOOD: &str = r#"
[postgres]
url = "postgres://app:hunter2@localhost/app"
[pipelines.orders.source.notify]
channels = ["orders", "payments"]
[pipelines.orders.sinks.bus.nats]
servers = "nats://tok3n@localhost:4222"
subject = "app.{channel}"
stream = "APP"
"#;

#[test]
fn defaults_are_filled_in_and_secrets_are_not_shown() {
    let loaded = loaded("good", GOOD, &[]).unwrap();
    assert_eq!(loaded.settings.listen.to_string(), "127.0.0.1:9947");
    let flow = &loaded.settings.flows[0].flow;
    assert_eq!((flow.context.budget.messages, flow.context.batch.messages), (10_000, 1_000));
    for shown in [
        "budget_bytes_max = 67108864",
        "drain_deadline_ms = 8000",
        "on_rejected = \"skip\"",
        "mode = \"jetstream\"",
        "key = \"none\"",
        "channels = [\"orders\", \"payments\"]",
        "url = \"postgres://app:[redacted]@localhost/app\"",
    ] {
        assert!(loaded.effective.contains(shown), "{shown} in {}", loaded.effective);
    }
    for secret in ["hunter2", "tok3n"] {
        assert!(!loaded.effective.contains(secret), "{}", loaded.effective);
        assert!(!format!("{loaded:?}").contains(secret));
    }
}

#[test]
fn what_is_effective_is_a_configuration_again() {
    let effective = loaded("once", GOOD, &[]).unwrap().effective;
    let again = effective.replace("[redacted]", "x");
    assert_eq!(problems("twice", &again, &[]), Vec::<String>::new());
}

#[test]
fn ten_mistakes_give_ten_messages() {
    let text = r#"
        [postgres]
        urll = "postgres://app:hunter2@localhost/app"
        [admin]
        listen = "localhost"
        [shutdown]
        drain_deadline_ms = "soon"
        [pipelines.Orders.source.notify]
        channels = ["orders"]
        [pipelines.Orders.sinks.bus]
        channels = ["payments"]
        on_rejected = "dead_leter"
        budget_messages_max = 10
        batch = { messages_max = 20 }
        [pipelines.Orders.sinks.bus.nats]
        servers = "nats://localhost:4222"
        subject = 5
        stream = "APP"
        [pipelines.other.source.wal]
        [pipelines.other.sinks.nowhere]
        envelope = "binarry"
    "#;
    let problems = problems("ten", text, &[]);
    let expected = [
        "admin.listen: an address with a port",
        "pipelines.Orders: the name of a pipeline",
        "pipelines.Orders.sinks.bus.batch.messages_max: 20 does not fit",
        "pipelines.Orders.sinks.bus.channels: \"payments\" is not a channel of the source",
        "pipelines.Orders.sinks.bus.nats.subject: a text is needed",
        "pipelines.Orders.sinks.bus.on_rejected: unknown value; write one of `halt`, `dead_letter`, `skip`",
        "pipelines.other.sinks.nowhere: its kind is missing",
        "pipelines.other.sinks.nowhere.envelope: unknown value",
        "pipelines.other.source.wal: `wal` is not built yet",
        "postgres.urll: unknown key; did you mean `url`?",
        "shutdown.drain_deadline_ms: a whole number",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}\n{expected}");
        assert!(!problem.contains("hunter2"), "{problem}");
    }
}

#[test]
fn the_environment_sets_everything_and_is_named_when_wrong() {
    let variables = [
        ("PGHERALD__POSTGRES__URL", "postgres://app@localhost/app"),
        ("PGHERALD__PIPELINES__A_B__SOURCE__NOTIFY__CHANNELS", "one, two"),
        ("PGHERALD__PIPELINES__A_B__SINKS__BUS__NATS__SERVERS", "nats://h:1,nats://i:2"),
        ("PGHERALD__PIPELINES__A_B__SINKS__BUS__NATS__SUBJECT", "x.{channel}"),
        ("PGHERALD__PIPELINES__A_B__SINKS__BUS__NATS__STREAM", "123"),
        ("PGHERALD__PIPELINES__A_B__SINKS__BUS__NATS__CREATE_STREAM", "true"),
        ("PGHERALD__PIPELINES__A_B__SINKS__BUS__BATCH__LINGER_MS", "5"),
    ];
    let settings = loaded("environment", "", &variables).unwrap().settings;
    let context = &settings.flows[0].flow.context;
    assert_eq!(&*context.pipeline, "a_b");
    assert_eq!(context.batch.linger.as_millis(), 5);
    assert_eq!(context.channels.as_ref().unwrap().len(), 2);
    let wrong = [
        ("PGHERALD__POSTGRS__URL", "postgres://app:hunter2@localhost/app"),
        ("PGHERALD__SHUTDOWN__DRAIN_DEADLINE_MS", "hunter2"),
    ];
    let problems = problems("wrong", GOOD, &wrong);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].contains("did you mean `postgres`"), "{problems:#?}");
    assert!(problems[0].contains("PGHERALD__POSTGRS__URL"), "{problems:#?}");
    assert!(problems[1].contains("PGHERALD__SHUTDOWN__DRAIN_DEADLINE_MS"), "{problems:#?}");
    assert!(!problems.concat().contains("hunter2"), "{problems:#?}");
}

#[test]
fn ranges_and_contradictions_are_found() {
    let sink = "[pipelines.orders.sinks.bus]\n";
    for (key, value, said) in [
        ("budget_messages_max", "0", "must lie between 1 and"),
        ("budget_bytes_max", "0", "must lie between 1 and"),
        ("message_bytes_max", "0", "must lie between 1 and"),
        ("batch.messages_max", "0", "must lie between 1 and"),
        ("batch.messages_max", "10001", "does not fit into budget_messages_max, which is 10000"),
        ("batch.bytes_max", "67108865", "does not fit into budget_bytes_max, which is 67108864"),
        ("batch.linger_ms", "60001", "must lie between 0 and 60000"),
        ("channels", "[]", "is empty"),
        ("channels", "[\"orders\", \"orders\"]", "twice"),
        ("budget_messages_max", "-1", "a negative number was found"),
    ] {
        let problems = problems("range", &format!("{GOOD}{sink}{key} = {value}\n"), &[]);
        assert_eq!(problems.len(), 1, "{key} = {value}: {problems:#?}");
        assert!(problems[0].contains(said), "{problems:#?}");
    }
    assert_eq!(problems("small", &format!("{GOOD}{sink}budget_messages_max = 5\n"), &[]).len(), 0);
}

#[test]
fn an_empty_configuration_says_what_is_required() {
    let problems = problems("empty", "", &[]);
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(problems[0].starts_with("pipelines: there is none"));
    assert!(problems[1].starts_with("postgres.url: "));
}

#[test]
fn nothing_follows_from_what_is_reported_already() {
    let broken = GOOD.replace("url =", "url = 5 #").replace("channels =", "chanels =");
    let broken = broken.replace("stream =", "streem =");
    let problems = problems("noise", &broken, &[]);
    assert_eq!(problems.len(), 3, "{problems:#?}");
    let none =
        super::tests::problems("none", &GOOD.replace("sinks.bus.nats", "sinks.bus.natz"), &[]);
    assert_eq!(none.len(), 1, "{none:#?}");
}

#[test]
#[cfg(feature = "kafka")]
fn a_sink_has_one_kind() {
    let two =
        format!("{GOOD}[pipelines.orders.sinks.bus.kafka]\nbrokers = \"h:1\"\ntopic = \"a\"\n");
    let problems = problems("two", &two, &[]);
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert!(problems[0].contains("has more than one kind: `kafka`, `nats`"));
}

#[test]
fn payloads_are_shown_only_to_who_has_a_token() {
    let shows = format!("{GOOD}\n[admin]\nshow_payloads = true\n");
    let refused = problems("shows", &shows, &[]);
    assert!(refused[0].starts_with("admin.show_payloads: needs admin.token_file"), "{refused:#?}");
    let short = problems("short", &shows, &[("PGHERALD__ADMIN__TOKEN", "guessed")]);
    assert!(short[0].starts_with("admin.token: is shorter than 16 bytes"), "{short:#?}");
    let token = "0123456789abcdef";
    let loaded = loaded("token", &shows, &[("PGHERALD__ADMIN__TOKEN", token)]).unwrap();
    assert!(loaded.settings.access.show_payloads && !loaded.effective.contains(token));
    assert!(!loaded.scrubber.scrub(token).contains(token));
    let file = problems("file", &shows, &[("PGHERALD__ADMIN__TOKEN_FILE", "/may/come/later")]);
    assert_eq!(file, Vec::<String>::new());
}
