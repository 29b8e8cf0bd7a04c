//! What was read and is not handed over yet: a page follows the room in the budget, a batch does not.

use std::vec;

use pgherald_core::{Message, Room};

use crate::reader::Page;

/// A page as it is handed over, in parts.
pub(crate) struct Ahead {
    ids: Vec<i64>,
    messages: std::iter::Peekable<vec::IntoIter<(usize, Message)>>,
    complete: bool,
    /// So many ids are handed over.
    given: usize,
}

/// A part of a page: as if the page had ended with it.
pub(crate) struct Part {
    pub(crate) ids: Vec<i64>,
    pub(crate) messages: Vec<Message>,
    pub(crate) complete: bool,
}

impl Ahead {
    /// A page that brought messages.
    pub(crate) fn of(page: Page) -> Self {
        let Page { ids, messages, complete, .. } = page;
        Self { ids, messages: messages.into_iter().peekable(), complete, given: 0 }
    }

    /// What the room admits, with the rows that are passed over before and behind it. Without
    /// messages: the next one does not fit.
    pub(crate) fn part(&mut self, room: Room) -> Part {
        let (mut messages, mut bytes) = (Vec::new(), 0);
        let mut end = self.given;
        while let Some((place, message)) =
            self.messages.next_if(|(_, message)| room.admits(messages.len(), bytes, message.size()))
        {
            bytes += message.size();
            end = place + 1;
            messages.push(message);
        }
        let last = self.messages.peek().is_none();
        if last {
            end = self.ids.len();
        }
        let ids = self.ids[self.given..end].to_vec();
        self.given = end;
        Part { ids, messages, complete: last && self.complete }
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        self.messages.peek().is_none()
    }
}
