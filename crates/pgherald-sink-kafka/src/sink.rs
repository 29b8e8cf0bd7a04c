//! Opens writers.

use std::{collections::HashSet, sync::Arc};

use futures_util::{FutureExt as _, future::BoxFuture};
use pgherald_core::{FlowContext, Opened, Sink, SinkError};

use crate::{
    cluster, error::Fault, metrics, producer::Producer, settings::KafkaSettings,
    sink_state::SinkState, writer::KafkaWriter,
};

/// Publishes one flow to Kafka: idempotent, with `acks=all`, in order of each partition.
pub struct KafkaSink {
    settings: Arc<KafkaSettings>,
    context: FlowContext,
    sink_state: Arc<SinkState>,
}

impl KafkaSink {
    /// For one flow.
    #[must_use]
    pub fn new(settings: KafkaSettings, context: FlowContext) -> Self {
        let refused = metrics::batches_refused(&context.pipeline, &context.sink);
        let sink_state = Arc::new(SinkState::new(refused));
        Self { settings: Arc::new(settings), context, sink_state }
    }

    async fn open_writer(&self) -> Result<KafkaWriter, Fault> {
        self.sink_state.wait_for_retired().await?;
        let singly = self.sink_state.isolates();
        let producer = Producer::start(&self.settings, &self.sink_state, singly).await?;
        self.find_topics(&producer).await?;
        cluster::identified(&producer).await?;
        let (settings, sink_state) = (self.settings.clone(), self.sink_state.clone());
        Ok(KafkaWriter::new(settings, &self.context, sink_state, producer))
    }

    /// Looks for every topic that the configuration names, and creates what is missing if it may.
    async fn find_topics(&self, producer: &Producer) -> Result<(), Fault> {
        let topics = self.settings.configured_topics();
        if topics.is_empty() {
            let probe = self.settings.probe();
            return cluster::metadata_of(producer, &probe).await.map(drop);
        }
        let mut reached = HashSet::new();
        for topic in topics.into_iter().map(Arc::from) {
            let mut found = cluster::find(producer, &self.settings, &topic, true).await?;
            found.leaders.retain(|leader| reached.insert(leader.address.clone()));
            cluster::reach(producer, &topic, found.leaders).await?;
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
