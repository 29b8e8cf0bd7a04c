//! Which flows take a notification, and the message that each of them gets.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use bytes::Bytes;
use pgherald_core::{Body, ContentType, Headers, Message, MessageId};

use crate::{KeyRule, slot::Slot};

/// Hands notifications to the flows that take their channel. Flows share payload and channel.
pub(crate) struct Router {
    routes: HashMap<Arc<str>, Route>,
    rules: Vec<KeyRule>,
    /// The keys of one message, by rule: computed once, whoever asks.
    keys: Vec<Option<Option<Bytes>>>,
    open: Vec<bool>,
    bursts: Vec<Vec<Message>>,
    /// The payloads in `bursts`, each counted once.
    pending_bytes: usize,
}

struct Route {
    channel: Arc<str>,
    bytes: Bytes,
    takers: Vec<Taker>,
}

struct Taker {
    slot: usize,
    rule: usize,
    /// The media type of every payload; `None`: by the payload.
    content_type: Option<ContentType>,
}

impl Router {
    pub(crate) fn new(slots: &[Arc<Slot>]) -> Self {
        let mut router = Self {
            routes: HashMap::new(),
            rules: Vec::new(),
            keys: Vec::new(),
            open: vec![false; slots.len()],
            bursts: slots.iter().map(|_| Vec::new()).collect(),
            pending_bytes: 0,
        };
        for (place, slot) in slots.iter().enumerate() {
            let rule = router.rule(&slot.key);
            let content_type = slot.content_type.clone().map(ContentType::TextAs);
            for channel in slot.channels.iter() {
                let content_type = content_type.clone();
                router.route(channel).takers.push(Taker { slot: place, rule, content_type });
            }
        }
        router.keys = vec![None; router.rules.len()];
        router
    }

    fn rule(&mut self, rule: &KeyRule) -> usize {
        self.rules.iter().position(|known| known == rule).unwrap_or_else(|| {
            self.rules.push(rule.clone());
            self.rules.len() - 1
        })
    }

    fn route(&mut self, channel: &Arc<str>) -> &mut Route {
        self.routes.entry(Arc::clone(channel)).or_insert_with(|| Route {
            channel: Arc::clone(channel),
            bytes: Bytes::copy_from_slice(channel.as_bytes()),
            takers: Vec::new(),
        })
    }

    /// From now on the flow takes what is heard.
    pub(crate) fn open(&mut self, slot: usize) {
        self.open[slot] = true;
    }

    /// Whether the flow takes what is heard.
    pub(crate) fn is_open(&self, slot: usize) -> bool {
        self.open[slot]
    }

    /// The session is over: no flow takes anything.
    pub(crate) fn close_all(&mut self) {
        self.open.fill(false);
    }

    /// One notification: goes into the burst of every open flow that takes it.
    pub(crate) fn heard(&mut self, channel: &str, payload: &str, id: MessageId, at: SystemTime) {
        let Some(route) = self.routes.get(channel) else { return };
        self.keys.fill(None);
        let (mut body, mut by_payload) = (None, None);
        for taker in route.takers.iter().filter(|taker| self.open[taker.slot]) {
            let key = self.keys[taker.rule]
                .get_or_insert_with(|| self.rules[taker.rule].key(&route.bytes, payload));
            let body = body.get_or_insert_with(|| {
                self.pending_bytes += payload.len();
                Bytes::copy_from_slice(payload.as_bytes())
            });
            let content_type = match &taker.content_type {
                Some(set) => set,
                None => by_payload.get_or_insert_with(|| ContentType::of_text(payload)),
            };
            self.bursts[taker.slot].push(Message {
                id,
                channel: Arc::clone(&route.channel),
                key: key.clone(),
                headers: Headers::default(),
                content_type: content_type.clone(),
                body: Body::Payload(body.clone()),
                since: at,
            });
        }
    }

    /// How many bytes of payloads wait for [`Router::flush`].
    pub(crate) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Hands the bursts to their queues.
    pub(crate) fn flush(&mut self, slots: &[Arc<Slot>]) {
        self.pending_bytes = 0;
        for (burst, slot) in self.bursts.iter_mut().zip(slots) {
            if !burst.is_empty() {
                slot.push(burst);
            }
        }
    }
}
