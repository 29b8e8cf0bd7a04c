//! The `kafka` table of a sink, checked and completed.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use pgherald_core::{FileFault, FlowContext, Problems, Secret, Template};
use rdkafka::{
    client::ClientContext,
    config::{ClientConfig, RDKafkaLogLevel},
    error::KafkaError,
    producer::{BaseProducer, DeliveryResult, ProducerContext},
};

use crate::{
    address::{is_address, not_an_address},
    config::KafkaConfig,
    error::creation_text,
    files::TlsFile,
    partitioner::Partitioner,
    properties::{defaults, kept, protocol},
    security::{check_sasl, check_tls, names_a_file},
    timestamp::Timestamp,
    topic::{self, TopicTemplate},
};

/// librdkafka's own `topic.metadata.refresh.interval.ms`.
const REFRESH: Duration = Duration::from_secs(300);

/// What a Kafka sink needs to know, checked.
#[derive(Clone)]
pub struct KafkaSettings {
    pub(crate) topic: TopicTemplate,
    pub(crate) gap_topic: Option<String>,
    pub(crate) create: Option<NewTopics>,
    pub(crate) timestamp: Timestamp,
    pub(crate) partitioner: Partitioner,
    /// What must be there whenever a client is made.
    pub(crate) files: Vec<TlsFile>,
    properties: BTreeMap<String, String>,
    password: Option<Secret>,
}

/// The shape of topics that pgherald creates; -1 leaves it to the broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewTopics {
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i32,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaSettings").field("topic", &self.topic.as_str()).finish_non_exhaustive()
    }
}

impl KafkaSettings {
    /// librdkafka's configuration, with the password as it is now.
    ///
    /// # Errors
    /// The password's file is of no use now.
    pub(crate) fn client(&self) -> Result<ClientConfig, FileFault> {
        let mut client = self.without_secrets();
        if let Some(password) = &self.password {
            client.set("sasl.password", &*password.read()?);
        }
        Ok(client)
    }

    fn without_secrets(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set_log_level(RDKafkaLogLevel::Info);
        for (name, value) in &self.properties {
            client.set(name, value);
        }
        client
    }

    /// A property as it was set.
    pub(crate) fn property(&self, name: &str) -> Option<&str> {
        self.properties.get(name).map(String::as_str)
    }

    /// So long a topic is believed to have the partitions that it had.
    pub(crate) fn refresh(&self) -> Duration {
        let set = self.property("topic.metadata.refresh.interval.ms");
        set.and_then(|text| text.parse().ok()).map_or(REFRESH, Duration::from_millis)
    }

    /// What this sink writes to, for people: a topic, or the template where data names it.
    pub(crate) fn writes_to(&self) -> Arc<str> {
        self.configured_topics().first().copied().unwrap_or(self.topic.as_str()).into()
    }

    /// A topic to ask for: the first one that is configured, else one that the template could name.
    /// Whether it is there does not matter then: whatever the answer, the cluster answers.
    pub(crate) fn probe(&self) -> Arc<str> {
        let configured = self.configured_topics().first().map(|topic| Arc::from(*topic));
        configured.unwrap_or_else(|| self.topic.example().into())
    }

    /// Every topic that the configuration alone names and Kafka takes: the gap topic too.
    pub(crate) fn configured_topics(&self) -> Vec<&str> {
        let named = self.topic.configured().unwrap_or_default();
        let named = named.iter().filter_map(|topic| topic.as_deref().ok());
        let mut topics: Vec<_> = named.chain(self.gap_topic.as_deref()).collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }
}

impl KafkaConfig {
    /// Checks everything without a connection. Adds each problem with its dotted key, below `key`,
    /// and what to do; without any the settings come back.
    pub fn resolve(
        &self,
        key: &str,
        context: &FlowContext,
        problems: &mut Problems,
    ) -> Option<KafkaSettings> {
        let mut own = Problems::default();
        let brokers = self.brokers(key, &mut own);
        self.check_protocol(key, &mut own);
        let topic = self.topic_template(key, &mut own);
        self.check_gap_topic(key, &mut own);
        let create = self.new_topics(key, &mut own);
        let password = self.sasl.as_ref().and_then(|sasl| check_sasl(sasl, key, &mut own));
        check_tls(self.tls.as_ref(), key, &mut own);
        let options = self.options.resolve(&format!("{key}.options"), &mut own);

        let mut settings = None;
        if let (Some(template), true) = (topic, own.is_empty()) {
            let properties = self.properties(&brokers, options, context);
            let partitioner = properties.get("partitioner").and_then(|name| name.parse().ok());
            let files = self.files(key, &properties);
            let found = KafkaSettings {
                files,
                topic: TopicTemplate::new(template, context),
                gap_topic: self.gap_topic.clone(),
                create,
                timestamp: self.timestamp,
                // The options take no other name.
                partitioner: partitioner.unwrap_or(Partitioner::Murmur2),
                properties,
                password,
            };
            match try_out(&found) {
                Ok(()) => settings = Some(found),
                Err(text) => own.add(key, text),
            }
        }
        for problem in own.iter() {
            problems.add(problem.key.clone(), problem.text.clone());
        }
        settings
    }

    fn brokers(&self, key: &str, problems: &mut Problems) -> String {
        let key = format!("{key}.brokers");
        if self.brokers.0.is_empty() {
            problems.add(&key, "is missing; name at least one broker as \"host:9092\"");
        }
        for broker in self.brokers.0.iter().filter(|broker| !is_address(broker)) {
            problems.add(&key, not_an_address(broker));
        }
        self.brokers.0.join(",")
    }

    fn topic_template(&self, key: &str, problems: &mut Problems) -> Option<Template> {
        let key = format!("{key}.topic");
        let Some(text) = &self.topic else {
            problems.add(key, "is missing; name the topic, such as \"app.{channel}\"");
            return None;
        };
        let parsed = Template::parse(text).map_err(|error| error.to_string());
        match parsed.and_then(|template| {
            let legal = topic::legal_literals(&template).map_err(|illegal| illegal.to_string());
            legal.map(|()| template)
        }) {
            Ok(template) => Some(template),
            Err(text) => {
                problems.add(key, text);
                None
            }
        }
    }

    fn check_gap_topic(&self, key: &str, problems: &mut Problems) {
        if let Some(Err(illegal)) = self.gap_topic.as_deref().map(topic::legal) {
            problems.add(format!("{key}.gap_topic"), illegal.to_string());
        }
    }

    fn new_topics(&self, key: &str, problems: &mut Problems) -> Option<NewTopics> {
        for (name, value) in
            [("partitions", self.partitions), ("replication_factor", self.replication_factor)]
        {
            let key = format!("{key}.{name}");
            match value {
                Some(_) if !self.create_topics => {
                    problems.add(
                        key,
                        "has no effect without create_topics = true; set it too, or remove this",
                    );
                }
                Some(value) if value < 1 => problems.add(key, "must be at least 1"),
                _ => {}
            }
        }
        self.create_topics.then(|| NewTopics {
            partitions: self.partitions.unwrap_or(-1),
            replication_factor: self.replication_factor.unwrap_or(-1),
        })
    }

    fn properties(
        &self,
        brokers: &str,
        options: BTreeMap<String, String>,
        context: &FlowContext,
    ) -> BTreeMap<String, String> {
        let mut properties: BTreeMap<_, _> = defaults(context);
        let encrypted = self.tls.is_some() || options.contains_key("security.protocol");
        properties.extend(options);
        properties.extend(kept(context, &properties));
        let mut set =
            |name: &str, value: &str| properties.insert(name.to_owned(), value.to_owned());
        set("bootstrap.servers", brokers);
        set("security.protocol", protocol(encrypted, self.sasl.is_some()));
        let sasl = self.sasl.clone().unwrap_or_default();
        let tls = self.tls.clone().unwrap_or_default();
        for (name, value) in [
            ("sasl.mechanism", sasl.mechanism),
            ("sasl.username", sasl.username),
            ("ssl.ca.location", tls.ca_file),
            ("ssl.certificate.location", tls.cert_file),
            ("ssl.key.location", tls.key_file),
        ] {
            value.map(|value| set(name, &value));
        }
        properties
    }
}

/// Lets librdkafka look at the whole, without files, which may come later, and without a connection.
fn try_out(settings: &KafkaSettings) -> Result<(), String> {
    let mut client = settings.without_secrets();
    client.remove("bootstrap.servers");
    if let Some(password) = &settings.password {
        client.set("sasl.password", password.literal().unwrap_or("comes later"));
    }
    for name in settings.properties.keys().filter(|name| names_a_file(name)) {
        client.remove(name);
    }
    match client.create_with_context::<_, BaseProducer<Quiet>>(Quiet) {
        Ok(_) => Ok(()),
        Err(error) => Err(creation_text(&error)),
    }
}

/// Says nothing and hears nothing.
struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
    fn stats_raw(&self, _: &[u8]) {}
}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();
    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use pgherald_core::{BatchLimits, Budget, Envelope, EventNames};

    use super::*;

    fn context() -> FlowContext {
        FlowContext {
            pipeline: "orders".into(),
            source: "notify",
            sink: "bus".into(),
            channels: Some(Arc::new(["a".into(), "b c".into()])),
            envelope: Envelope::Binary,
            events: EventNames::default(),
            budget: Budget { messages: 10_000, bytes: 64 << 20 },
            batch: BatchLimits { messages: 1000, bytes: 1 << 20, linger: Duration::ZERO },
            message_bytes_max: 1 << 20,
        }
    }

    fn resolve(table: &str) -> Result<KafkaSettings, Vec<String>> {
        let config: KafkaConfig = serde_json::from_str(table).unwrap();
        let mut problems = Problems::default();
        let settings = config.resolve("k", &context(), &mut problems);
        let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(settings.is_none(), !texts.is_empty());
        settings.ok_or(texts)
    }

    #[test]
    fn every_mistake_is_reported_with_its_key() {
        let texts = resolve(
            r#"{"topic": "app/{channel}", "gap_topic": "a b", "partitions": 3,
                "sasl": {"mechanism": "GSSAPI"}, "tls": {"cert_file": "c.pem"},
                "options": {"acks": "1", "linger.mss": "1"}}"#,
        )
        .unwrap_err();
        let keys = [
            "brokers",
            "topic",
            "gap_topic",
            "partitions",
            "sasl.mechanism",
            "sasl.username",
            "sasl.password",
            "tls.key_file",
            "options.\"acks\"",
            "options.\"linger.mss\"",
        ];
        let found: Vec<_> = texts.iter().map(|text| text.split(": ").next().unwrap()).collect();
        assert_eq!(found, keys.map(|key| format!("k.{key}")));
    }

    #[test]
    fn librdkafka_sees_the_whole_without_a_connection() {
        let table = r#"{"brokers": "127.0.0.1:1", "topic": "t", "options":
            {"ssl.ca.pem": "nonsense", "security.protocol": "ssl"}}"#;
        let texts = resolve(table).unwrap_err();
        assert!(texts[0].contains("ssl.ca.pem"), "{texts:?}");
        assert!(!texts[0].contains("nonsense"), "{texts:?}");
        // A file may come later.
        let table = r#"{"brokers": "127.0.0.1:1", "topic": "t", "tls": {"ca_file": "/none.pem"},
            "options": {"ssl_crl_location": "/none.crl"}}"#;
        let files: Vec<_> =
            resolve(table).unwrap().files.into_iter().map(|it| it.file.key().to_owned()).collect();
        assert_eq!(files, ["k.tls.ca_file", "k.options.\"ssl_crl_location\""]);
    }

    #[test]
    fn sasl_is_not_switched_on_by_an_option() {
        let table = |sasl: &str| {
            format!(
                r#"{{"brokers": "a:1", "topic": "t", "options": {{"security_protocol": "SASL_SSL"}} {sasl}}}"#
            )
        };
        let texts = resolve(&table("")).unwrap_err();
        assert!(texts[0].starts_with("k.options.\"security_protocol\": needs the table [k.sasl]"));
        let sasl = r#", "sasl": {"mechanism": "PLAIN", "username": "u", "password": "p"}"#;
        assert_eq!(resolve(&table(sasl)).unwrap().property("security.protocol"), Some("sasl_ssl"));
    }

    #[test]
    fn what_order_rests_on_is_set() {
        let found = resolve(
            r#"{"brokers": "a:1", "topic": "app.{channel}",
                "options": {"linger_ms": "2", "compression.type": "lz4"}}"#,
        )
        .unwrap();
        for (name, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("partitioner", "murmur2"),
            ("message.timeout.ms", "0"),
            ("enable.gapless.guarantee", "true"),
            ("allow.auto.create.topics", "false"),
            ("linger.ms", "2"),
            ("compression.type", "lz4"),
            ("security.protocol", "plaintext"),
        ] {
            assert_eq!(found.property(name), Some(value), "{name}");
        }
        // A channel that makes no legal topic rejects its own messages, not the configuration.
        assert_eq!(found.configured_topics(), ["app.a"]);
    }
}
