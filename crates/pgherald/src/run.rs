//! Carries messages until a signal, then drains.

use std::{sync::Arc, time::Duration};

use pgherald_core::FlowEnd;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
    time::{Instant, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin::{self, Admin, Hosts},
    config::{Loaded, Origin, Settings},
    metrics::Exporter,
    signals::{Asked, Signals},
    wiring::{End, Work, wire},
};

/// What tasks may take beyond the drain deadline before they count as hung.
const GRACE: Duration = Duration::from_secs(2);
/// Histograms hold every value until then: 24 bytes of each message.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the bridge; true if everything that was heard is delivered.
pub(crate) async fn run(loaded: Loaded, origin: Origin) -> bool {
    let exporter = match Exporter::install() {
        Ok(exporter) => exporter,
        Err(error) => {
            tracing::error!(%error, "the bridge could not start");
            return false;
        }
    };
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!(%error, "the bridge could not listen to signals");
            return false;
        }
    };
    announce(&loaded);
    loaded.memory.log();
    let stop = CancellationToken::new();
    let (work, views) = wire(&loaded.settings, &stop);
    let admin = Admin {
        started: std::time::SystemTime::now(),
        flows: views,
        exporter,
        hosts: Hosts::of(loaded.settings.listen),
        scrubber: loaded.scrubber.clone(),
        access: loaded.settings.access.clone(),
        watchers: Arc::new(Semaphore::new(admin::WATCHERS_MAX)),
    };
    let _background = background(&loaded.settings, admin);
    let drain = loaded.settings.drain;
    let reread = move || {
        let (origin, running) = (origin.clone(), loaded.effective.clone());
        // Files may lie on a disk that does not answer.
        tokio::task::spawn_blocking(move || origin.validate(&running));
    };
    supervise(work, signals, reread, stop, drain).await
}

fn announce(loaded: &Loaded) {
    let settings = &loaded.settings;
    let flows: Vec<String> = settings
        .flows
        .iter()
        .map(|plan| {
            let context = &plan.flow.context;
            format!("{}/{} ({})", context.pipeline, context.sink, plan.sink.kind())
        })
        .collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        configuration = %loaded.path.display(),
        postgres = %settings.postgres,
        flows = flows.join(", "),
        admin = %settings.listen,
        "pgherald starts"
    );
}

/// The admin pages and the metrics' upkeep, until the returned set is dropped: also during a drain.
fn background(settings: &Settings, admin: Admin) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let exporter = admin.exporter.clone();
    tasks.spawn(async move {
        let mut ticks = interval(UPKEEP_INTERVAL);
        loop {
            ticks.tick().await;
            exporter.upkeep();
        }
    });
    tasks.spawn(admin::serve(settings.listen, Arc::new(admin)));
    tasks
}

/// Waits for the end of every task: by itself only after a signal.
async fn supervise(
    mut work: Work,
    mut signals: Signals,
    reread: impl Fn(),
    stop: CancellationToken,
    drain: Duration,
) -> bool {
    let mut clean = true;
    let mut overtime: Option<Instant> = None;
    loop {
        let late = overtime.unwrap_or_else(Instant::now);
        tokio::select! {
            ended = work.join_next() => match ended {
                Some(ended) => clean &= take(ended, &stop),
                None => break,
            },
            asked = signals.next() => match asked {
                Asked::Reread => reread(),
                Asked::End(signal) if stop.is_cancelled() => {
                    tracing::warn!(signal, "ended at once by a second signal, without a drain");
                    return false;
                }
                Asked::End(signal) => {
                    let drain_deadline_ms = u64::try_from(drain.as_millis()).unwrap_or(u64::MAX);
                    tracing::info!(signal, drain_deadline_ms, "stopping");
                    stop.cancel();
                }
            },
            () = sleep_until(late), if overtime.is_some() => {
                tracing::error!(tasks = work.len(), "tasks did not end after the drain deadline");
                return false;
            }
        }
        if stop.is_cancelled() && overtime.is_none() {
            overtime = Some(Instant::now() + drain + GRACE);
        }
    }
    match clean {
        true => tracing::info!("pgherald has stopped; everything that was heard is delivered"),
        false => tracing::error!("pgherald has stopped, and not everything is delivered"),
    }
    clean
}

/// Takes in how one task ended; false if that is a failure. An end that nobody asked for is a fault
/// of the program, and stops the others in good order.
fn take(ended: Result<End, JoinError>, stop: &CancellationToken) -> bool {
    let asked = stop.is_cancelled();
    stop.cancel();
    match ended {
        Ok(End::Flow { pipeline, sink, end }) if asked => drained(&pipeline, &sink, end),
        Ok(End::Hub | End::Outbox | End::Balancer) if asked => true,
        Ok(End::Flow { pipeline, sink, .. }) => {
            tracing::error!(%pipeline, %sink, "internal fault: the flow ended by itself; stopping");
            false
        }
        Ok(End::Hub) => {
            tracing::error!("internal fault: the listener ended by itself; stopping");
            false
        }
        Ok(End::Outbox) => {
            tracing::error!("internal fault: the outbox's keeper ended by itself; stopping");
            false
        }
        Ok(End::Balancer) => {
            tracing::error!("internal fault: the membership ended by itself; stopping");
            false
        }
        Err(error) if error.is_cancelled() => true,
        Err(_) => {
            tracing::error!("internal fault: a task panicked, see above; stopping");
            false
        }
    }
}

/// Whether a flow delivered everything; what it dropped it has logged itself.
fn drained(pipeline: &str, sink: &str, end: FlowEnd) -> bool {
    if end.dropped == 0 && !end.drained {
        tracing::error!(pipeline, sink, "the drain deadline passed before all was acknowledged");
    }
    end.dropped == 0 && end.drained
}
