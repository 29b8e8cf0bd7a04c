//! Who wrote the cursor last. Every write requires the token of the write before it and stores one of
//! its own: whoever restores, replaces or moves the cursor meanwhile stores another, and the next
//! write notices.

use pgherald_postgres::literal;

/// A token as the cursor has it. `None`: 0.1.0 wrote the row.
pub(crate) type Token = Option<String>;

/// The tokens that one session writes.
///
/// Core may stop waiting for a write at any time, and then nobody knows whether it happened. So the
/// tokens of a session go up, and all of them since the latest answer count as its own.
pub(crate) struct Tokens {
    answered: Token,
    /// Random, and zero in its lower half.
    session: u128,
    first_unanswered: u64,
    next: u64,
}

impl Tokens {
    /// The session begins with this one stored.
    pub(crate) fn new(stored: Token) -> Self {
        let session = u128::from(rand::random::<u64>()) << 64;
        Self { answered: stored, session, first_unanswered: 0, next: 0 }
    }

    /// For one write.
    pub(crate) fn draw(&mut self) -> String {
        self.next += 1;
        self.nth(self.next - 1)
    }

    /// The write with this token has happened, and every earlier one is past.
    pub(crate) fn answered(&mut self, token: String) {
        self.answered = Some(token);
        self.first_unanswered = self.next;
    }

    /// What was stored at the latest answer.
    pub(crate) fn stored(&self) -> Option<&str> {
        self.answered.as_deref()
    }

    /// Nobody else has written.
    pub(crate) fn are_own(&self, stored: &Token) -> bool {
        let unanswered = self.nth(self.first_unanswered)..self.nth(self.next);
        *stored == self.answered
            || stored.as_ref().is_some_and(|stored| unanswered.contains(stored))
    }

    /// The same for a row of `pgherald.cursor`, in SQL.
    pub(crate) fn are_own_sql(&self) -> String {
        let unanswered = [self.first_unanswered, self.next].map(|n| literal(&self.nth(n)));
        format!(
            "({} OR (token >= {}::uuid AND token < {}::uuid))",
            is_sql(&self.answered),
            unanswered[0],
            unanswered[1],
        )
    }

    /// As PostgreSQL writes a `uuid`: its texts sort as its values do.
    fn nth(&self, n: u64) -> String {
        let hex = format!("{:032x}", self.session | u128::from(n));
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}

/// A row of `pgherald.cursor` has just this token.
pub(crate) fn is_sql(token: &Token) -> String {
    let token = token.as_deref().map_or_else(|| "NULL".to_owned(), literal);
    format!("token IS NOT DISTINCT FROM {token}::uuid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_since_the_latest_answer_is_own() {
        let found = Some("7c1e7d3e-1ab5-4e5b-9a7e-0d4f9f0d7f52".to_owned());
        let mut tokens = Tokens::new(found.clone());
        assert!(tokens.are_own(&found) && !tokens.are_own(&None));
        let abandoned = [Some(tokens.draw()), Some(tokens.draw())];
        assert!(abandoned.iter().chain([&found]).all(|token| tokens.are_own(token)));
        let last = tokens.draw();
        tokens.answered(last.clone());
        assert!(tokens.are_own(&Some(last)));
        assert!(!abandoned.iter().chain([&found]).any(|token| tokens.are_own(token)));
        assert!(!tokens.are_own(&Some(Tokens::new(None).draw())), "another session's");
    }

    #[test]
    fn a_row_of_the_former_version_has_none() {
        let mut tokens = Tokens::new(None);
        assert!(tokens.are_own(&None) && tokens.are_own_sql().contains("FROM NULL::uuid"));
        let first = tokens.draw();
        tokens.answered(first);
        assert!(!tokens.are_own(&None));
    }
}
