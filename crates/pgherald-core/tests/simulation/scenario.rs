//! What a seed stands for.

use std::time::Duration;

use pgherald_core::{BatchLimits, Budget, OnRejected, Ordering};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// What a simulation must contain; each is counted where it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Situation {
    /// One of two flows with a dead sink.
    DeadSinkBesideALiveOne,
    /// A message above the budget.
    AboveTheBudget,
    /// A refusal in mid-batch with later ones confirmed.
    RefusalWithLaterOnesConfirmed,
    /// Halted, with later messages of the key waiting.
    HaltedWithLaterOnesWaiting,
    /// A commit whose answer is lost, then `resume`.
    CommitAnswerLost,
    /// Server history rewound, and ids reused.
    HistoryRewound,
    /// The session lost while an ack is under way.
    SessionLostDuringAck,
    /// Stopped in mid-read.
    StoppedInMidRead,
    /// A gap between two messages of one key.
    GapBetweenMessagesOfOneKey,
    /// Empty batches that move the checkpoint.
    EmptyBatch,
    /// A transaction larger than the budget.
    TransactionAboveTheBudget,
    /// Two processes with one flow.
    TwoProcesses,
    /// A process killed with messages in flight.
    Killed,
    /// A queue that overflowed.
    Overflow,
    /// An outcome that never came.
    OutcomeLost,
    /// A message kept as a dead letter.
    DeadLettered,
    /// The place for dead letters away when it was needed.
    DeadLettersAway,
    /// A dead letter sent again, and confirmed.
    SentAgain,
    /// A dead letter sent again, and rejected again.
    RejectedAgain,
    /// Handed over to another process, with messages that were not settled.
    HandedOver,
    /// Handed over while the sink was being opened.
    HandedOverBeforeItRead,
}

impl Situation {
    pub(crate) const ALL: [Self; 21] = [
        Self::DeadSinkBesideALiveOne,
        Self::AboveTheBudget,
        Self::RefusalWithLaterOnesConfirmed,
        Self::HaltedWithLaterOnesWaiting,
        Self::CommitAnswerLost,
        Self::HistoryRewound,
        Self::SessionLostDuringAck,
        Self::StoppedInMidRead,
        Self::GapBetweenMessagesOfOneKey,
        Self::EmptyBatch,
        Self::TransactionAboveTheBudget,
        Self::TwoProcesses,
        Self::Killed,
        Self::Overflow,
        Self::OutcomeLost,
        Self::DeadLettered,
        Self::DeadLettersAway,
        Self::SentAgain,
        Self::RejectedAgain,
        Self::HandedOver,
        Self::HandedOverBeforeItRead,
    ];
}

/// The dice of one simulation.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) positions: bool,
    pub(crate) ordering: Ordering,
    pub(crate) exactly_once: bool,
    pub(crate) on_rejected: OnRejected,
    pub(crate) budget: Budget,
    pub(crate) batch: BatchLimits,
    pub(crate) message_bytes_max: usize,
    pub(crate) processes: usize,
    /// A second flow over the same rows, into a broker that stays dead.
    pub(crate) dead_neighbour: bool,
    pub(crate) steps: usize,
    /// In thousandths.
    pub(crate) poison: u32,
    pub(crate) publish_fault: u32,
    pub(crate) outage: u32,
    pub(crate) session_loss: u32,
    pub(crate) kill: u32,
    pub(crate) rewind: u32,
    pub(crate) hand_over: u32,
    pub(crate) keys: u8,
}

impl Scenario {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut dice = SmallRng::seed_from_u64(seed);
        let positions = dice.random_bool(0.7);
        let exactly_once = positions && dice.random_bool(0.25);
        let by_key = !exactly_once && dice.random_bool(0.3);
        let mut rate =
            |most: u32| if dice.random_bool(0.5) { 0 } else { dice.random_range(1..=most) };
        let (poison, publish_fault, outage) = (rate(80), rate(250), rate(120));
        let (session_loss, kill, rewind) = (rate(120), rate(80), rate(100));
        let hand_over = rate(300);
        let processes = if positions && !exactly_once && dice.random_bool(0.3) { 2 } else { 1 };
        Self {
            seed,
            positions,
            ordering: if by_key { Ordering::Key } else { Ordering::Flow },
            exactly_once,
            on_rejected: match dice.random_range(0..3) {
                0 => OnRejected::Halt,
                1 => OnRejected::Skip,
                _ => OnRejected::DeadLetter,
            },
            budget: Budget {
                messages: dice.random_range(1..40),
                bytes: dice.random_range(50..2_000),
            },
            batch: BatchLimits {
                messages: dice.random_range(1..20),
                bytes: dice.random_range(20..500),
                linger: Duration::from_millis(if dice.random_bool(0.2) { 20 } else { 0 }),
            },
            message_bytes_max: 3_000,
            processes,
            dead_neighbour: positions && dice.random_bool(0.15),
            steps: dice.random_range(5..40),
            poison: if exactly_once { 0 } else { poison },
            publish_fault,
            outage,
            session_loss,
            kill,
            rewind: if positions { rewind } else { 0 },
            hand_over: if processes > 1 { hand_over } else { 0 },
            keys: dice.random_range(1..5),
        }
        .with_nothing_but_hand_overs(dice.random_bool(0.5))
    }

    /// Without another fault nothing may arrive twice.
    fn with_nothing_but_hand_overs(self, so: bool) -> Self {
        if self.hand_over == 0 || !so {
            return self;
        }
        Self { publish_fault: 0, outage: 0, session_loss: 0, kill: 0, rewind: 0, ..self }
    }
}
