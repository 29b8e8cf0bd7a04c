//! What failed connections said.

use std::sync::Arc;

use rdkafka::types::RDKafkaErrorCode as Code;

use crate::error::{Fault, plain};

/// Why connections failed.
///
/// librdkafka reports no failure that repeats the one before it within 30 s, whether there was a
/// connection in between or not (`rd_kafka_broker_set_error`). So a connection does not remove what
/// was said, it only makes it past: if connections fail again and librdkafka gives no reason, the
/// reason is the same.
#[derive(Debug, Default)]
pub(crate) struct Failures {
    last: Option<Arc<str>>,
    /// The brokers refuse us, or we them.
    refused: Option<Fault>,
    past: bool,
}

impl Failures {
    /// `meaning`: what the reason may mean.
    pub(crate) fn add(&mut self, code: Code, reason: &str, meaning: Option<String>) {
        // "1/1 brokers are down" says less than what came before it.
        if code == Code::AllBrokersDown && self.last.is_some() {
            self.past = false;
            return;
        }
        if self.past {
            *self = Self::default();
        }
        if let Some(refused) = Fault::of_connection(code, reason) {
            self.refused = Some(refused);
        }
        self.last = Some(meaning.unwrap_or_else(|| plain(reason).to_owned()).into());
    }

    /// A broker answers.
    pub(crate) fn connected(&mut self) {
        self.past = true;
    }

    /// Whether the brokers refuse us.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some() && !self.past
    }

    /// What the latest one said.
    pub(crate) fn last(&self) -> Option<Arc<str>> {
        self.last.clone().filter(|_| !self.past)
    }

    /// Why a question was not answered. `code`: what librdkafka says of the question; with
    /// [`Code::BrokerTransportFailure`] it had no connection.
    pub(crate) fn explain(&self, code: Option<Code>, otherwise: &str) -> Fault {
        let applies = !self.past || code == Some(Code::BrokerTransportFailure);
        match (&self.refused, &self.last) {
            (Some(refused), _) if applies => refused.clone(),
            (None, Some(reason)) if applies => Fault::Unreachable(reason.clone()),
            _ => Fault::Unreachable(otherwise.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNTRUSTED: &str = "ssl://a:1: SSL handshake failed: certificate could not be verified";

    fn explained(failures: &Failures, code: Code) -> String {
        failures.explain(Some(code), "no answer").to_string()
    }

    #[test]
    fn a_refusal_that_is_not_repeated_counts_again_without_a_connection() {
        let mut failures = Failures::default();
        failures.add(Code::SSL, UNTRUSTED, None);
        failures.add(Code::AllBrokersDown, "1/1 brokers are down", None);
        assert!(failures.is_refused());
        // A question that was asked before them is answered.
        failures.connected();
        assert!(!failures.is_refused() && failures.last().is_none());
        assert!(explained(&failures, Code::OperationTimedOut).contains("no answer"));
        let text = explained(&failures, Code::BrokerTransportFailure);
        assert!(text.contains("no TLS session") && text.contains("verified"), "{text}");
        failures.add(Code::AllBrokersDown, "1/1 brokers are down", None);
        assert!(failures.is_refused(), "what is left out is the same as before");
    }

    #[test]
    fn another_failure_takes_the_place_of_what_is_past() {
        let mut failures = Failures::default();
        failures.add(Code::SSL, UNTRUSTED, None);
        failures.connected();
        failures.add(Code::BrokerTransportFailure, "a:1: Connection refused", None);
        assert!(!failures.is_refused());
        let text = explained(&failures, Code::BrokerTransportFailure);
        assert!(text.contains("Connection refused") && !text.contains("TLS"), "{text}");
    }

    #[test]
    fn brokers_that_are_down_are_the_reason_where_there_is_no_other() {
        let mut failures = Failures::default();
        failures.add(Code::AllBrokersDown, "1/1 brokers are down", None);
        assert!(explained(&failures, Code::BrokerTransportFailure).contains("are down"));
    }
}
