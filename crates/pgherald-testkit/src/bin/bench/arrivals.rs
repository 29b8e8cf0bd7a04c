//! When messages get to a consumer that reads along.

use std::ops::ControlFlow;
use std::time::{Duration, SystemTime};

use pgherald_testkit::{JetStreamReader, KafkaConsumer, Result};

use crate::servers::{Servers, Target};

/// Reads from a payload when it was made; `None`: it is no message that counts.
pub(crate) type MadeAt = fn(&[u8]) -> Option<SystemTime>;

/// A consumer of one topic or stream, from its beginning.
pub(crate) struct Arrivals {
    consumer: Consumer,
    made_at: MadeAt,
}

enum Consumer {
    Kafka(KafkaConsumer),
    JetStream(Box<JetStreamReader>),
}

impl Arrivals {
    /// The topic or stream has to be there.
    pub(crate) async fn open(
        servers: &Servers,
        target: Target,
        name: &str,
        made_at: MadeAt,
    ) -> Result<Self> {
        let consumer = match target {
            Target::Kafka => {
                Consumer::Kafka(KafkaConsumer::open(&servers.kafka.bootstrap(), &[name]).await?)
            }
            Target::JetStream => {
                let reader = JetStreamReader::open(&servers.nats.url(), name).await?;
                Consumer::JetStream(Box::new(reader))
            }
        };
        Ok(Self { consumer, made_at })
    }

    /// The next `count` messages, each as the milliseconds from when it was made to its arrival.
    pub(crate) async fn millis(&mut self, count: usize, deadline: Duration) -> Result<Vec<f64>> {
        let mut millis = Vec::with_capacity(count);
        let made_at = self.made_at;
        let mut each = |payload: &[u8], at: SystemTime| {
            if let Some(made) = made_at(payload) {
                millis.push(at.duration_since(made).unwrap_or_default().as_secs_f64() * 1e3);
            }
            if millis.len() < count { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        match &mut self.consumer {
            Consumer::Kafka(consumer) => {
                let each = |value: Option<&[u8]>, at| each(value.unwrap_or_default(), at);
                consumer.pass(deadline, each).await?;
            }
            Consumer::JetStream(reader) => reader.pass(deadline, each).await?,
        }
        Ok(millis)
    }
}
