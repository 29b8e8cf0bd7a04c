//! Latencies at one sink before and during something, and whether that made a difference.

use std::{
    fmt,
    ops::{Add, Range},
    time::{Duration, SystemTime},
};

use crate::truth::Arrival;

/// Fewer say nothing about the hundredth.
const COUNT_MIN: usize = 100;
/// What a machine that does other things too may add; whoever waits for another sink waits for
/// seconds.
const NOISE: Quantiles =
    Quantiles { p50: Duration::from_millis(50), p99: Duration::from_millis(300) };

/// The latencies of what was announced in one window of time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quantiles {
    p50: Duration,
    p99: Duration,
}

/// One sink that nothing happened to.
#[derive(Clone, Debug)]
pub(crate) struct Beside {
    pub(crate) fault: &'static str,
    pub(crate) sink: &'static str,
    before: Window,
    during: Window,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    count: usize,
    quantiles: Quantiles,
}

impl Beside {
    pub(crate) fn new(
        fault: &'static str,
        sink: &'static str,
        arrivals: &[Arrival],
        before: Range<SystemTime>,
        during: Range<SystemTime>,
    ) -> Self {
        let (before, during) = (Window::of(arrivals, &before), Window::of(arrivals, &during));
        Self { fault, sink, before, during }
    }

    /// At most twice the median and three times the 99th percentile, and some noise.
    pub(crate) fn assert_did_not_notice(&self) {
        let allowed = self.before.quantiles.times(2, 3) + NOISE;
        let now = self.during.quantiles;
        assert!(now.p50 <= allowed.p50 && now.p99 <= allowed.p99, "{self}: allowed {allowed:?}");
    }
}

/// All rows under one heading.
pub(crate) fn print_table(rows: &[Beside]) {
    println!("{:<20} {:<5} {:>34}   {:>34}", "while", "sink", "before", "during");
    for row in rows {
        println!("{row}");
    }
}

impl fmt::Display for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<20} {:<5} {}   {}", self.fault, self.sink, self.before, self.during)
    }
}

impl Window {
    fn of(arrivals: &[Arrival], window: &Range<SystemTime>) -> Self {
        let sent_then = |it: &&Arrival| it.sent.is_some_and(|sent| window.contains(&sent));
        let mut all: Vec<Duration> =
            arrivals.iter().filter(sent_then).filter_map(Arrival::latency).collect();
        all.sort_unstable();
        assert!(all.len() >= COUNT_MIN, "only {} messages in {window:?}", all.len());
        let at = |percent: usize| all[(all.len() - 1) * percent / 100];
        Self { count: all.len(), quantiles: Quantiles { p50: at(50), p99: at(99) } }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Quantiles { p50, p99 } = self.quantiles;
        let (p50, p99) = (format!("{p50:.1?}"), format!("{p99:.1?}"));
        write!(f, "{:>6} sent p50 {p50:>7} p99 {p99:>7}", self.count)
    }
}

impl Quantiles {
    fn times(self, median: u32, hundredth: u32) -> Self {
        Self { p50: self.p50 * median, p99: self.p99 * hundredth }
    }
}

impl Add for Quantiles {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { p50: self.p50 + other.p50, p99: self.p99 + other.p99 }
    }
}
