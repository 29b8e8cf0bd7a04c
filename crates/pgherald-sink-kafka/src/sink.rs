//! Opens writers.

use std::sync::Arc;

use futures_util::{FutureExt as _, future::BoxFuture};
use pgherald_core::{FlowContext, Opened, Sink, SinkError};

use crate::{
    cluster, error::Fault, memory::Memory, metrics, producer::Producer, settings::KafkaSettings,
    writer::KafkaWriter,
};

/// Publishes one flow to Kafka: idempotent, with `acks=all`, in order of each partition.
pub struct KafkaSink {
    settings: Arc<KafkaSettings>,
    context: FlowContext,
    memory: Arc<Memory>,
}

impl KafkaSink {
    /// For one flow.
    #[must_use]
    pub fn new(settings: KafkaSettings, context: FlowContext) -> Self {
        let refused = metrics::batches_refused(&context.pipeline, &context.sink);
        let memory = Arc::new(Memory::new(refused));
        Self { settings: Arc::new(settings), context, memory }
    }

    async fn open_writer(&self) -> Result<KafkaWriter, Fault> {
        self.memory.wait_for_retired().await?;
        let singly = self.memory.isolates();
        let producer = Producer::start(&self.settings, &self.memory, singly).await?;
        self.find_topics(&producer).await?;
        let (settings, memory) = (self.settings.clone(), self.memory.clone());
        Ok(KafkaWriter::new(settings, &self.context, memory, producer))
    }

    /// Looks for every topic that the configuration names, and creates what is missing if it may.
    async fn find_topics(&self, producer: &Producer) -> Result<(), Fault> {
        let topics = self.settings.configured_topics();
        if topics.is_empty() {
            return cluster::reach(producer).await;
        }
        for topic in topics {
            let topic = Arc::from(topic);
            match (cluster::look_up(producer, &topic).await, self.settings.create) {
                (Err(Fault::MissingTopic(_)), Some(shape)) => {
                    cluster::create(producer, &self.settings, shape, &topic).await?
                }
                (found, _) => found?,
            };
        }
        Ok(())
    }
}

impl Sink for KafkaSink {
    fn open(&self) -> BoxFuture<'_, Result<Opened, SinkError>> {
        async move {
            let writer = Box::new(self.open_writer().await?);
            Ok(Opened { writer, resume: None })
        }
        .boxed()
    }
}
