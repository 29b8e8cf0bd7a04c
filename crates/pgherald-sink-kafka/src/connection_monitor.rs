//! Whether the cluster answers.

use std::{pin::pin, sync::Arc, time::Duration};

use pgherald_core::{ConnectionState, Event};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until},
};

use crate::{
    cluster::{self, Silence},
    error::{Class, Fault},
    producer::Producer,
};

/// How long the cluster may leave a question open in quiet times.
const ANSWER_WAIT: Duration = Duration::from_secs(3);
/// How long it may do so after a connection failed.
const TROUBLED_WAIT: Duration = Duration::from_secs(1);
/// How long nothing is asked after the last sign of life.
const QUIET: Duration = Duration::from_secs(5);
/// How often a cluster that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);
/// How soon after a question a failed connection may lead to the next one.
const SOON: Duration = Duration::from_millis(250);

/// Asks the cluster after trouble and in quiet times. librdkafka mends connections by itself; this
/// only tells how it stands.
pub(crate) struct ConnectionMonitor {
    connected: bool,
    delivered: u64,
    /// When the cluster was last heard or asked.
    heard: Instant,
    asking: Option<JoinHandle<ClusterAnswer>>,
    /// A connection failed, and nothing was asked since.
    trouble: bool,
    /// The topics that the configuration names: what is wrong with them ends the session.
    configured: Vec<Box<str>>,
}

enum ClusterAnswer {
    Here,
    /// The topic that was asked for has an error.
    Topic(Fault),
    /// A broker that leads it does not answer.
    Silent(Fault),
    Nothing(Silence),
}

impl ConnectionMonitor {
    pub(crate) fn new(configured: &[&str]) -> Self {
        let configured = configured.iter().map(|topic| Box::from(*topic)).collect();
        let heard = Instant::now();
        Self { connected: true, delivered: 0, heard, asking: None, trouble: false, configured }
    }

    /// The next change. Cancel safe: what is under way is kept.
    pub(crate) async fn event(&mut self, producer: &Producer, topic: &Arc<str>) -> Event {
        loop {
            if let Some(fault) = producer.events().ended() {
                return Event::Ended(fault.into());
            }
            if self.delivered_since(producer) && self.set_connected(producer, true) {
                return Event::Connected;
            }
            if let Some(asking) = &mut self.asking {
                let answer = tokio::select! {
                    answer = asking => answer,
                    () = producer.events().changed() => continue,
                };
                self.asking = None;
                self.heard = Instant::now();
                let answer = answer.unwrap_or_else(|error| {
                    ClusterAnswer::Nothing(Silence { code: None, text: error.to_string() })
                });
                if let Some(event) = self.judge(producer, answer) {
                    return event;
                }
                continue;
            }
            self.trouble |= producer.events().take_trouble();
            let due = self.heard + self.pause(self.trouble);
            tokio::select! {
                () = sleep_until(due) => self.ask(producer, topic),
                () = producer.events().changed(), if !self.trouble => {}
            }
        }
    }

    /// Awaits `work` and meanwhile tells how the connection stands. An end of the session is seen by
    /// `work` itself.
    pub(crate) async fn while_waiting<T>(
        &mut self,
        producer: &Producer,
        topic: &Arc<str>,
        connection_state: &watch::Sender<ConnectionState>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            let event = tokio::select! {
                biased;
                done = &mut work => return done,
                event = self.event(producer, topic) => event,
            };
            if let Event::Ended(_) = event {
                return work.await;
            }
            tell(connection_state, &event);
        }
    }

    fn pause(&self, trouble: bool) -> Duration {
        match (self.connected, trouble) {
            (true, true) => SOON,
            (true, false) => QUIET,
            (false, _) => AGAIN,
        }
    }

    fn delivered_since(&mut self, producer: &Producer) -> bool {
        let delivered = producer.events().delivered();
        let more = delivered != self.delivered;
        if more {
            self.delivered = delivered;
            self.heard = Instant::now();
        }
        more
    }

    /// Asks whoever answers in quiet times; after trouble also the brokers that lead the topic.
    fn ask(&mut self, producer: &Producer, topic: &Arc<str>) {
        let troubled = std::mem::take(&mut self.trouble) || !self.connected;
        let wait = if troubled { TROUBLED_WAIT } else { ANSWER_WAIT };
        let (client, events) = (producer.client().clone(), producer.events().clone());
        let topic = topic.clone();
        let configured = self.configured.iter().any(|it| **it == *topic);
        self.asking = Some(tokio::task::spawn_blocking(move || {
            let metadata = match cluster::ask_blocking(&client, &topic, wait) {
                Err(silence) => return ClusterAnswer::Nothing(silence),
                Ok(metadata) => metadata,
            };
            if let Some(code) = cluster::topic_error(&metadata, &topic) {
                return if configured {
                    ClusterAnswer::of_topic(code, topic)
                } else {
                    ClusterAnswer::Here
                };
            }
            let leaders = if troubled { cluster::leaders(&metadata, &topic) } else { Vec::new() };
            let reached = cluster::reach_blocking(&client, &events, &topic, leaders, wait);
            reached.map_or_else(ClusterAnswer::Silent, |()| ClusterAnswer::Here)
        }));
    }

    fn judge(&mut self, producer: &Producer, answer: ClusterAnswer) -> Option<Event> {
        match answer {
            // While something is on its way its own report says more.
            ClusterAnswer::Topic(fault) if producer.events().is_idle() => {
                producer.events().end(fault.clone());
                Some(Event::Ended(fault.into()))
            }
            ClusterAnswer::Here | ClusterAnswer::Topic(_) => {
                self.set_connected(producer, true).then_some(Event::Connected)
            }
            ClusterAnswer::Silent(_) | ClusterAnswer::Nothing(_) => {
                let why = match answer {
                    ClusterAnswer::Silent(fault) if !producer.events().is_refused() => fault,
                    ClusterAnswer::Nothing(it) => producer.events().unreachable(it.code, &it.text),
                    _ => producer.events().unreachable(None, "refused"),
                };
                if why.is_blocked() {
                    // An operator mends this, maybe in a file that only a new producer reads.
                    producer.events().end(why.clone());
                    return Some(Event::Ended(why.into()));
                }
                self.set_connected(producer, false).then(|| Event::Disconnected(why.into()))
            }
        }
    }

    /// Whether that is news.
    fn set_connected(&mut self, producer: &Producer, connected: bool) -> bool {
        let news = self.connected != connected;
        self.connected = connected;
        producer.events().set_disconnected(!connected);
        news
    }
}

/// Says how the connection stands after an event.
pub(crate) fn tell(connection_state: &watch::Sender<ConnectionState>, event: &Event) {
    connection_state.send_replace(match event {
        Event::Disconnected(why) => Some(why.to_string().into()),
        Event::Connected | Event::Ended(_) => None,
    });
}

impl ClusterAnswer {
    fn of_topic(code: rdkafka::types::RDKafkaErrorCode, topic: Arc<str>) -> Self {
        match Class::of(code) {
            Class::Topic => Self::Topic(Fault::of_topic(code, topic)),
            _ => Self::Here,
        }
    }
}
