//! Puts rejected messages where they are safe, however long that takes.

use rand::{SeedableRng, rngs::SmallRng};
use tokio::time::sleep;

use super::{
    FlowSettings,
    health::SinkPhase,
    rejection::Rejection,
    shared::{FlowShared, chain},
};
use crate::{Backoff, DeadLetter, DeadLetters, DeadLettersError, Message};

pub(super) struct DeadLetterWriter<'a> {
    letters: &'a dyn DeadLetters,
    backoff: Backoff,
    random: SmallRng,
}

impl<'a> DeadLetterWriter<'a> {
    pub(super) fn new(letters: &'a dyn DeadLetters, settings: &FlowSettings) -> Self {
        let random = SmallRng::seed_from_u64(settings.jitter_seed.rotate_left(32));
        Self { letters, backoff: settings.backoff, random }
    }

    /// Returns when the message is kept. Meanwhile nothing behind it is sent, and the flow's state
    /// says why.
    ///
    /// # Cancellation
    /// The message stays where it is, and is offered and rejected again.
    pub(super) async fn keep(
        &mut self,
        shared: &FlowShared,
        message: &Message,
        rejection: &Rejection,
    ) {
        let reason = chain(&*rejection.error);
        let mut failures = 0;
        loop {
            let age = rejection.at.elapsed();
            let letter = DeadLetter { message, reason: &reason, age };
            let Err(error) = self.letters.put(letter).await else { break };
            failures += 1;
            let why = format!("a rejected message cannot be kept: {}", chain(&error)).into();
            shared.sink_phase(match error {
                DeadLettersError::Transient(_) => SinkPhase::Failed(why),
                DeadLettersError::Blocked(_) => SinkPhase::Blocked(why),
            });
            sleep(self.backoff.wait(failures, &mut self.random)).await;
        }
        if failures > 0 {
            shared.sink_phase(SinkPhase::Open);
        }
    }
}
