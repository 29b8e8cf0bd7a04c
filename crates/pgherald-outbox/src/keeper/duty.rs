//! Whether the keeper does its work: what it could not do, and for how long.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{TableName, flow::FlowFacts};

/// The flows of an outbox are not ready when nothing was deleted or measured for so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct Duty {
    patience: Duration,
    done_at: Instant,
    /// What was in the way last.
    fault: Option<String>,
}

impl Duty {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, done_at: Instant::now(), fault: None }
    }

    /// Some of the work was done, and nothing was in the way.
    pub(super) fn done(&mut self) {
        (self.done_at, self.fault) = (Instant::now(), None);
    }

    /// True: that is news.
    pub(super) fn failed(&mut self, fault: &str) -> bool {
        let news = self.fault.as_deref() != Some(fault);
        if news {
            self.fault = Some(fault.to_owned());
        }
        news
    }

    /// There is nothing to do.
    pub(super) fn rests(&mut self) {
        self.done();
    }

    /// Tells the flows, if it has been too long.
    pub(super) fn tell(&self, table: &TableName, flows: &[Arc<FlowFacts>]) {
        let neglected = self.neglected(table);
        for flow in flows.iter().filter(|flow| flow.is_carried()) {
            flow.tell_neglected(neglected.clone());
        }
    }

    fn neglected(&self, table: &TableName) -> Option<Arc<str>> {
        (self.done_at.elapsed() >= self.patience).then(|| {
            let fault = self.fault.as_deref().unwrap_or("no answer");
            let patience = self.patience.as_secs_f32();
            format!(
                "the keeper of {table} could neither delete nor measure for {patience} s: {fault}"
            )
            .into()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minute_without_work_is_too_long_and_the_reason_is_named() {
        let table = TableName::parse("pgherald.outbox").unwrap();
        let mut duty = Duty::new(PATIENCE);
        assert!(duty.failed("permission denied") && !duty.failed("permission denied"));
        tokio::time::advance(Duration::from_secs(59)).await;
        assert_eq!(duty.neglected(&table), None);
        tokio::time::advance(Duration::from_secs(1)).await;
        let told = duty.neglected(&table).unwrap();
        assert!(
            told.contains("pgherald.outbox") && told.ends_with("60 s: permission denied"),
            "{told}"
        );
        duty.done();
        assert_eq!(duty.neglected(&table), None);
    }
}
