//! Memory and file descriptors of the bridge over time.

use std::{
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::task::JoinSet;

const EVERY: Duration = Duration::from_secs(1);
/// Memory may rise by this much between the second quarter and the last.
const GROWTH_KB: u64 = 16 * 1024;
/// Connections come and go with the faults.
const GROWTH_DESCRIPTORS: u64 = 10;
/// A shorter run is over before memory has settled.
const TOO_SHORT: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug)]
struct Sample {
    rss_kb: u64,
    descriptors: u64,
}

/// Samples until it is dropped.
pub(super) struct Footprint {
    samples: Arc<Mutex<Vec<Sample>>>,
    _task: JoinSet<()>,
}

impl Footprint {
    pub(super) fn watch(pid: u32) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        task.spawn(watch(pid, Arc::clone(&samples)));
        Self { samples, _task: task }
    }

    /// The second quarter of the run, when everything has warmed up, against the last one.
    pub(super) fn assert_flat(&self, length: Duration) {
        let samples = self.samples.lock().expect("the watch does not panic").clone();
        let quarter = samples.len() / 4;
        assert!(quarter > 0, "too few samples");
        let early = median(&samples[quarter..2 * quarter]);
        let late = median(&samples[samples.len() - quarter..]);
        let largest = samples.iter().map(|sample| sample.rss_kb).max().unwrap_or_default();
        println!("footprint: second quarter {early:?}, last {late:?}, largest {largest} KiB");
        assert!(late.descriptors <= early.descriptors + GROWTH_DESCRIPTORS, "descriptors leak");
        if length >= TOO_SHORT {
            assert!(late.rss_kb <= early.rss_kb + GROWTH_KB, "memory grows");
        }
    }
}

async fn watch(pid: u32, samples: Arc<Mutex<Vec<Sample>>>) {
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        if let Some(sample) = sample(pid) {
            samples.lock().expect("the test does not panic").push(sample);
        }
    }
}

fn sample(pid: u32) -> Option<Sample> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let rss_kb = line.split_whitespace().nth(1)?.parse().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64;
    Some(Sample { rss_kb, descriptors })
}

fn median(samples: &[Sample]) -> Sample {
    let middle = |value: fn(&Sample) -> u64| {
        let mut values: Vec<u64> = samples.iter().map(value).collect();
        values.sort_unstable();
        values[values.len() / 2]
    };
    Sample { rss_kb: middle(|it| it.rss_kb), descriptors: middle(|it| it.descriptors) }
}
