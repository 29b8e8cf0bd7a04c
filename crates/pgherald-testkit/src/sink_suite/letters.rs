//! Dead letters in memory.

use std::sync::{Arc, Mutex};

use futures_util::{FutureExt, future::BoxFuture};
use pgherald_core::{DeadLetter, DeadLetters, DeadLettersError, Message, MessageId, Room};

/// The ids and reasons of the messages that were rejected.
#[derive(Clone, Default)]
pub(super) struct Letters(Arc<Mutex<Vec<(String, String)>>>);

impl Letters {
    pub(super) fn kept(&self) -> Vec<(String, String)> {
        self.0.lock().expect("no panic happens under this lock").clone()
    }
}

impl DeadLetters for Letters {
    fn put<'a>(&'a self, letter: DeadLetter<'a>) -> BoxFuture<'a, Result<(), DeadLettersError>> {
        let (id, reason) = (letter.message.id.to_string(), letter.reason.to_owned());
        let mut kept = self.0.lock().expect("no panic happens under this lock");
        kept.retain(|(known, _)| *known != id);
        kept.push((id, reason));
        async { Ok(()) }.boxed()
    }

    fn next(&self, _: Room) -> BoxFuture<'_, Result<Vec<Message>, DeadLettersError>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn done<'a>(&'a self, _: &'a [MessageId]) -> BoxFuture<'a, Result<(), DeadLettersError>> {
        async { Ok(()) }.boxed()
    }
}
