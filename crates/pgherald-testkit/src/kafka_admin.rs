//! Topics.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;

use crate::{Error, Kafka, Result};

impl Kafka {
    /// Creates a topic with these settings, such as `("max.message.bytes", "2000")`.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let admin = self.admin()?;
        let created = admin.create_topics([&topic], &options()).await;
        outcome(&format!("cannot create topic {name}"), created)
    }

    /// Deletes a topic.
    pub async fn delete_topic(&self, name: &str) -> Result<()> {
        let admin = self.admin()?;
        let deleted = admin.delete_topics(&[name], &options()).await;
        outcome(&format!("cannot delete topic {name}"), deleted)
    }

    /// Changes a topic's settings, such as `("max.message.bytes", "2000")`: all others become the
    /// broker's.
    pub async fn alter_topic(&self, name: &str, settings: &[(&str, &str)]) -> Result<()> {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(name));
        for (key, value) in settings {
            change = change.set(key, value);
        }
        let what = format!("cannot alter topic {name}");
        let answer = self.admin()?.alter_configs([&change], &options()).await;
        let results = answer.map_err(|error| Error::because(&what, error))?;
        match results.into_iter().find_map(std::result::Result::err) {
            Some((_, code)) => Err(Error::because(what, code)),
            None => Ok(()),
        }
    }

    pub(crate) fn admin(&self) -> Result<AdminClient<DefaultClientContext>> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config.create().map_err(|error| Error::because("Kafka admin client", error))
    }
}

pub(crate) fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(20)))
}

pub(crate) fn outcome(
    what: &str,
    answer: rdkafka::error::KafkaResult<Vec<rdkafka::admin::TopicResult>>,
) -> Result<()> {
    let results = answer.map_err(|error| Error::because(what, error))?;
    match results.into_iter().find_map(std::result::Result::err) {
        Some((_, code)) => Err(Error::because(what, code)),
        None => Ok(()),
    }
}
