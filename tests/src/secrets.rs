//! No secret shows, whatever is asked, at any level of detail; and no payload in a log.

use pgherald_testkit::{Bridge, HttpReceiver, Nats, Notifier, Postgres, eventually, free_port};

use crate::{
    command_line::{file, pgherald, said},
    stage::{Config, SOON, shared_kafka},
};

/// As a user writes it into a URL, and as it is.
const POSTGRES: [&str; 2] = ["pg-hunter%40%222", "pg-hunter@\"2"];
const NATS_PASSWORD: &str = "n4ts-passw0rd";
const NATS_TOKEN: &str = "n4ts-t0ken";
const KAFKA_PASSWORD: &str = "k4fka-passw0rd";
const HTTP_PASSWORD: &str = "h00k-passw0rd";
const HTTP_TOKEN: &str = "h00k-bearer-t0ken";
const HTTP_API_KEY: &str = "h00k-api-k3y";
const HTTP_SECRETS: [&str; 2] =
    ["whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_plJ3nmyCDGBKInavdOK15jslplJ3nmyC"];
/// The path and the parameters of a webhook.
const WEBHOOK: [&str; 2] = ["T0/B0/p4th-s3cret", "5ig-s3cret"];
/// Stands in every payload, and nowhere else.
const PAYLOAD: &str = "sent_us";

fn assert_no_secret(text: &str, what: &str) {
    let brokers = [NATS_PASSWORD, NATS_TOKEN, KAFKA_PASSWORD];
    let http = [HTTP_PASSWORD, HTTP_TOKEN, HTTP_API_KEY];
    let http = http.into_iter().chain(HTTP_SECRETS).chain(WEBHOOK);
    let all = POSTGRES.into_iter().chain(brokers).chain(http);
    for secret in all {
        let shown = text.lines().find(|line| line.contains(secret));
        assert_eq!(shown, None, "{what} shows {secret}");
        let escaped = secret.escape_debug().to_string();
        assert!(!text.contains(&escaped), "{what} shows {escaped}");
    }
}

/// Servers that ask for secrets, and a configuration that knows them. One sink works, one has a
/// wrong token, one speaks of a password to a broker that wants none.
struct Stage {
    postgres: Postgres,
    _nats: [Nats; 2],
    _hook: HttpReceiver,
    config: String,
}

async fn stage() -> Stage {
    let postgres = Postgres::builder().password(POSTGRES[1]).start().await.unwrap();
    let with_password = Nats::builder().user("app", NATS_PASSWORD).start().await.unwrap();
    let with_token = Nats::builder().token("another").start().await.unwrap();
    let kafka = shared_kafka().await;
    let url = postgres.url_for(&format!("postgres:{}", POSTGRES[0]));
    let good = format!("user = \"app\"\npassword = \"{NATS_PASSWORD}\"");
    let (token, port) = (NATS_TOKEN, with_token.port());
    let wrong = format!(
        "[pipelines.p.sinks.wrong.nats]\nservers = \"nats://{token}@127.0.0.1:{port}\"\n\
         subject = \"wrong.{{channel}}\"\nstream = \"WRONG\""
    );
    let sasl = format!(
        "[pipelines.p.sinks.sasl.kafka.sasl]\nmechanism = \"PLAIN\"\nusername = \"app\"\n\
         password = \"{KAFKA_PASSWORD}\"\n[shutdown]\ndrain_deadline_ms = 1000"
    );
    let hook = HttpReceiver::start().await.unwrap();
    let [old, new] = HTTP_SECRETS;
    let ([path, sig], nobody) = (WEBHOOK, free_port());
    let hooks = format!(
        "[pipelines.p.sinks.basic.http]\nurl = \"http://app:{HTTP_PASSWORD}@127.0.0.1:{}/\"\n\
         secret = \"{old} {new}\"\nheaders.x-api-key = \"{HTTP_API_KEY}\"\n\
         [pipelines.p.sinks.chat.http]\nurl = \"http://127.0.0.1:{nobody}/{path}?sig={sig}\"\n\
         gap_url = \"http://127.0.0.1:{nobody}/gaps/{path}\"\n\
         [pipelines.p.sinks.bearer.http]\nurl = \"{}\"\nbearer_token = \"{HTTP_TOKEN}\"",
        hook.port(),
        hook.url("/")
    );
    let config = Config::new(&url, &["orders"])
        .nats("live", &with_password, "SECRET", "secret")
        .with(&good)
        .with(&wrong)
        .kafka("sasl", kafka, "secret.{channel}", 1)
        .with(&sasl)
        .with(&hooks);
    let config = config.text().to_owned();
    Stage { postgres, _nats: [with_password, with_token], _hook: hook, config }
}

/// Runs it until one sink works and two do not, asks for every page, and returns all that it said.
async fn run(stage: &Stage, format: &str, level: &str) -> String {
    let builder = Bridge::builder(&stage.config).env("RUST_LOG", level);
    let bridge = builder.argument("--log-format").argument(format).start().await.unwrap();
    let told = || async {
        let ready = bridge.readyz().await.map(|it| it.body).unwrap_or_default();
        !ready.contains("p/live:") && ready.contains("p/wrong: ") && ready.contains("p/sasl: ")
    };
    if let Err(error) = eventually("one works and two do not", SOON, told).await {
        panic!("{error}\n{}", bridge.explain().await);
    }
    let url = stage.postgres.url_for(&format!("postgres:{}", POSTGRES[0]));
    Notifier::new(&url).messages(20).run().await.unwrap();
    let published = || async {
        let metrics = bridge.metrics().await.unwrap();
        metrics.value("pgherald_messages_published_total", &[("sink", "live")]) == Some(20.0)
    };
    eventually("the good sink publishes", SOON, published).await.unwrap();
    for page in ["/", "/status", "/readyz", "/metrics"] {
        assert_no_secret(&bridge.get(page).await.unwrap().body, page);
    }
    assert_eq!(bridge.terminate(SOON).await.unwrap(), Some(1), "two sinks could not deliver");
    bridge.log()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_bridge_shows_none() {
    let stage = stage().await;
    for format in ["text", "json"] {
        for level in ["info", "trace"] {
            let log = run(&stage, format, level).await;
            assert!(log.contains(&level.to_uppercase()), "nothing was logged at {level}");
            assert_no_secret(&log, &format!("the log at {level} as {format}"));
            let payload = log.lines().find(|line| line.contains(PAYLOAD));
            assert_eq!(payload, None, "the log at {level} as {format} shows a payload");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_command_shows_one() {
    let stage = stage().await;
    let listen = format!("{}\n[admin]\nlisten = \"127.0.0.1:{}\"\n", stage.config, free_port());
    let good = file(&listen);
    let wrong = file(&listen.replace("stream =", "streem ="));
    let torn = file(&listen.replacen("/postgres\"", "/postgres", 1));
    for (_, file) in [&good, &wrong, &torn] {
        for arguments in [&["config"][..], &["check"], &["check", "--format", "json"], &["health"]]
        {
            for format in ["text", "json"] {
                let mut command = pgherald(arguments).await;
                command.args(["--log-format", format]).env("RUST_LOG", "trace");
                let said = said(command.env("PGHERALD_CONFIG", file)).await;
                assert_no_secret(&said.all(), &format!("{arguments:?} as {format}"));
                assert!(!said.all().is_empty());
            }
        }
    }
    let mut command = pgherald(&["config"]).await;
    let effective = said(command.env("PGHERALD_CONFIG", &good.1)).await;
    assert_eq!(effective.out.matches("[redacted]").count(), 11, "{}", effective.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_with_a_secret_is_not_quoted_when_it_is_wrong() {
    let (_scratch, path) = file("");
    for (name, value) in [
        ("PGHERALD__POSTGRES__URL", POSTGRES[1]),
        ("PGHERALD__POSTGRES__PASSWORD", NATS_PASSWORD),
        ("PGHERALD__PIPELINES__P__SINKS__BUS__KAFKA__SASL__PASSWORT", KAFKA_PASSWORD),
        ("PGHERALD__PIPELINES__P__SINKS__BUS__KAFKA__SASL", KAFKA_PASSWORD),
    ] {
        let mut command = pgherald(&["check"]).await;
        command.env("PGHERALD_CONFIG", &path).env(name, value);
        let said = said(&mut command).await;
        assert_eq!(said.code, Some(2), "{}", said.all());
        assert_no_secret(&said.all(), name);
    }
}
