//! Goes on with new rows.

use pgherald_core::Message;
use pgherald_postgres::{Class, PostgresError, PostgresSettings};
use tokio::time::{Instant, sleep};

use super::{TailOptions, Tailed, session::TailSession};
use crate::{
    incarnation::{Change, Incarnation},
    poll_backoff::PollBackoff,
    position::Position,
    ranges::Ranges,
    reader::Page,
    visibility::{Scan, Taken, Visibility},
};

/// An outbox that is followed. A session that was lost is opened again by the next call, and goes on
/// where the one before stood.
pub struct OutboxTail {
    postgres: PostgresSettings,
    options: TailOptions,
    session: Option<TailSession>,
    followed: Option<Followed>,
}

/// What outlives a session.
struct Followed {
    incarnation: Incarnation,
    visibility: Visibility,
    /// What the table held then and is not read yet: above the first id, through the second one.
    backlog: Option<(i64, i64)>,
    /// The newest id when it began: what has no row at or below it says nothing.
    began_at: i64,
}

/// What one look came to.
enum Look {
    News(Vec<Tailed>),
    /// There is more to read at once.
    More,
    Nothing,
}

impl OutboxTail {
    /// Nothing happens before [`OutboxTail::open`].
    #[must_use]
    pub fn new(postgres: PostgresSettings, options: TailOptions) -> Self {
        Self { postgres, options, session: None, followed: None }
    }

    /// Connects, and at the first time finds where to begin: rows that are committed after this
    /// returns are read.
    ///
    /// # Errors
    /// The server cannot be reached, or there is no outbox that can be read.
    pub async fn open(&mut self) -> Result<(), PostgresError> {
        if self.session.is_some() {
            return Ok(());
        }
        let mut session = TailSession::open(&self.postgres, &self.options).await?;
        match &mut self.followed {
            Some(Followed { visibility, .. }) => {
                // Every open writer may own every missing id: what was known of them is void.
                *visibility = Visibility::new(self.options.order, visibility.position().clone());
            }
            None => self.followed = Some(begin(&mut session, &self.options).await?),
        }
        self.session = Some(session);
        Ok(())
    }

    /// Waits for rows.
    ///
    /// # Errors
    /// The session is lost; the next call opens another one.
    ///
    /// # Cancellation
    /// Ends the session; what it was reading is read by the next call.
    pub async fn next(&mut self) -> Result<Vec<Tailed>, PostgresError> {
        let mut poll_backoff = PollBackoff::default();
        loop {
            self.open().await?;
            // A look that is dropped half way leaves an answer in the connection.
            let session = self.session.take().expect("it was opened");
            let began = Instant::now();
            let (session, look) = self.look(session).await?;
            self.session = Some(session);
            match look {
                Look::News(news) => return Ok(news),
                Look::More => {}
                Look::Nothing => {
                    if self.followed().visibility.is_waiting() {
                        poll_backoff.stay_awake();
                    }
                    sleep(poll_backoff.awake(began.elapsed())).await;
                }
            }
        }
    }

    fn followed(&mut self) -> &mut Followed {
        self.followed.as_mut().expect("whoever has a session has begun")
    }

    async fn look(
        &mut self,
        mut session: TailSession,
    ) -> Result<(TailSession, Look), PostgresError> {
        if self.followed().incarnation != session.incarnation {
            let look = self.other_incarnation(&mut session).await?;
            return Ok((session, look));
        }
        if let Some((above, through)) = self.followed().backlog {
            let scan =
                Scan { missing: Ranges::default(), above: Some(above), through: Some(through) };
            let page = session.page(&scan).await?;
            if page.incarnation.as_ref() != Some(&session.incarnation) {
                return self.void().await;
            }
            return Ok((session, self.followed().take_backlog(page, through)));
        }
        if self.followed().visibility.wants_writers() {
            let Some(writers) = session.writers().await? else { return self.void().await };
            self.followed().visibility.observe(&writers);
        }
        let Some(scan) = self.followed().visibility.scan() else {
            return Ok((session, Look::Nothing));
        };
        let page = session.page(&scan).await?;
        if page.incarnation.as_ref() != Some(&session.incarnation) {
            return self.void().await;
        }
        self.require_ahead(&page)?;
        Ok((session, self.followed().take(page)))
    }

    /// What was read rests on something else than what the session knows: another session looks
    /// again.
    async fn void(&mut self) -> Result<(TailSession, Look), PostgresError> {
        let session = TailSession::open(&self.postgres, &self.options).await?;
        Ok((session, Look::More))
    }

    /// Of a table that was only altered or rewritten ids go on.
    async fn other_incarnation(
        &mut self,
        session: &mut TailSession,
    ) -> Result<Look, PostgresError> {
        let began_at = session.newest().await?;
        let order = self.options.order;
        let followed = self.followed();
        let change = followed.incarnation.change(&session.incarnation);
        followed.incarnation = session.incarnation.clone();
        Ok(match change {
            Some(Change::Replaced | Change::Restarted) => {
                followed.visibility = Visibility::new(order, Position::default());
                (followed.backlog, followed.began_at) = (None, began_at);
                Look::News(vec![Tailed::Anew])
            }
            Some(Change::Rewritten | Change::Altered) | None => {
                followed.visibility =
                    Visibility::new(order, followed.visibility.position().clone());
                Look::More
            }
        })
    }

    /// Ids that are given out again come in below what was read.
    fn require_ahead(&mut self, page: &Page) -> Result<(), PostgresError> {
        let high = self.followed().visibility.position().high;
        if page.newest >= high {
            return Ok(());
        }
        let (table, newest) = (&self.options.table, page.newest);
        Err(PostgresError {
            class: Class::Blocked,
            text: format!("the sequence of {table} stands at {newest}, below a row with id {high}"),
            fix: "run `pgherald setup --repair`".to_owned(),
        })
    }
}

async fn begin(
    session: &mut TailSession,
    options: &TailOptions,
) -> Result<Followed, PostgresError> {
    let began_at = session.newest().await?;
    let position = session.latest().await?;
    let through = position.high;
    let backlog = match options.last {
        None => Some((i64::MIN, through)),
        Some(rows) => {
            let newest = session.newest_rows(rows, through).await?;
            newest.map(|(first, _)| (first.saturating_sub(1), through))
        }
    };
    let visibility = Visibility::new(options.order, position);
    Ok(Followed { incarnation: session.incarnation.clone(), visibility, backlog, began_at })
}

impl Followed {
    /// In id order, also where `strict` would wait for an open writer. A row that could not be read
    /// when it began comes from the visibility.
    fn take_backlog(&mut self, page: Page, through: i64) -> Look {
        let Page { ids, messages, complete, .. } = page;
        self.backlog = ids.last().filter(|_| !complete).map(|last| (*last, through));
        let missing = &self.visibility.position().missing;
        let there = messages.into_iter().filter(|(place, _)| !missing.contains(ids[*place]));
        let news: Vec<_> = there.map(|(_, message)| Tailed::Message(message)).collect();
        if news.is_empty() { Look::More } else { Look::News(news) }
    }

    fn take(&mut self, page: Page) -> Look {
        let Page { ids, messages, complete, .. } = page;
        let before = self.visibility.position().clone();
        self.visibility.take(Taken { ids: &ids, complete });
        let mut news: Vec<_> = messages
            .into_iter()
            .map(|(_, message): (_, Message)| Tailed::Message(message))
            .collect();
        news.extend(self.unseen(&before, &ids));
        match (news.is_empty(), complete) {
            (false, _) => Look::News(news),
            (true, false) => Look::More,
            (true, true) => Look::Nothing,
        }
    }

    fn unseen(&self, before: &Position, ids: &[i64]) -> Option<Tailed> {
        let mut unseen = given_up(before, self.visibility.position(), ids);
        unseen.remove(i64::MIN, self.began_at);
        let (mut count, mut ends) = (0u64, None);
        for (first, last) in unseen.iter() {
            count = count.saturating_add(last.abs_diff(first).saturating_add(1));
            ends = Some((ends.map_or(first, |(lowest, _)| lowest), last));
        }
        ends.map(|(first, last)| Tailed::Unseen { ids: count, first, last })
    }
}

/// Ids that count as dealt with since then, and had no row.
fn given_up(before: &Position, after: &Position, ids: &[i64]) -> Ranges {
    let mut dealt_with = before.missing.clone();
    dealt_with.insert(before.high.saturating_add(1), after.high);
    dealt_with.remove_all(&after.missing);
    ids.iter().for_each(|id| dealt_with.remove(*id, *id));
    dealt_with
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(high: i64, missing: &[(i64, i64)]) -> Position {
        Position { high, missing: missing.iter().copied().collect() }
    }

    #[test]
    fn an_id_without_a_row_is_told_once_it_is_decided() {
        let given_up =
            |before, after, ids: &[i64]| given_up(&before, &after, ids).iter().collect::<Vec<_>>();
        let (start, above) = (position(5, &[]), position(9, &[(6, 6), (8, 8)]));
        assert_eq!(given_up(start.clone(), above.clone(), &[7, 9]), [], "both may still come");
        assert_eq!(given_up(above.clone(), position(9, &[(8, 8)]), &[6]), [], "one came");
        assert_eq!(given_up(above, position(9, &[(8, 8)]), &[]), [(6, 6)], "one never comes");
        assert_eq!(given_up(start.clone(), position(9, &[]), &[7]), [(6, 6), (8, 9)], "strict");
        assert_eq!(given_up(start.clone(), start, &[]), []);
    }
}
