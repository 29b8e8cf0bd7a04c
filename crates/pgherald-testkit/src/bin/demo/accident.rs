//! The accident on purpose: the bridge's connections to PostgreSQL are reset, and for a moment it
//! cannot come back.

use std::time::{Duration, SystemTime};

use pgherald_testkit::{Error, Result, eventually};

use crate::stage::Stage;

/// How long nobody can connect.
pub(crate) const OUTAGE: Duration = Duration::from_millis(500);

/// How long it may take to come back.
const RETURN: Duration = Duration::from_secs(20);

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    cut: SystemTime,
    /// From the cut until the bridge was ready again.
    pub(crate) lasted: Duration,
}

impl Outage {
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { cut: SystemTime::UNIX_EPOCH, lasted: Duration::ZERO }
    }

    /// True for a message sent so close to the outage that it may have waited for its end.
    pub(crate) fn disturbs(&self, sent: SystemTime) -> bool {
        let near = Duration::from_millis(500);
        sent + near > self.cut && sent < self.cut + self.lasted + near
    }
}

/// Cuts the bridge off after `delay`, and says how long it took until it was back.
pub(crate) async fn provoke(stage: &Stage, delay: Duration) -> Result<Outage> {
    tokio::time::sleep(delay).await;
    let seconds = OUTAGE.as_secs_f64();
    println!("cutting the bridge's connection to PostgreSQL for {seconds} s ...");
    let cut = SystemTime::now();
    stage.proxy.refuse();
    stage.proxy.reset();
    tokio::time::sleep(OUTAGE).await;
    stage.proxy.heal();
    let back = || async {
        let metrics = stage.bridge.metrics().await;
        let gaps = metrics.ok().and_then(|it| gap_metric(&it));
        let is_back = gaps.is_some_and(|gaps| gaps >= 1.0) && ready(stage).await;
        is_back || stage.bridge.ended()
    };
    let waited = eventually("the bridge is back and counts a gap", RETURN, back).await;
    match waited {
        Ok(()) if !stage.bridge.ended() => {
            Ok(Outage { cut, lasted: cut.elapsed().unwrap_or_default() })
        }
        Ok(()) => Err(Error::because("the bridge has ended", stage.bridge.explain().await)),
        Err(error) => Err(Error::because(error, stage.bridge.explain().await)),
    }
}

/// How many gaps with the reason `disconnect` the bridge counts, over all sinks.
pub(crate) fn gap_metric(metrics: &pgherald_testkit::Metrics) -> Option<f64> {
    metrics.value("pgherald_gaps_total", &[("reason", "disconnect")])
}

async fn ready(stage: &Stage) -> bool {
    stage.bridge.readyz().await.is_ok_and(|reply| reply.status == 200)
}
