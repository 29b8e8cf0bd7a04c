//! Which facts do not hold, in one or two statements that take no lock.

use std::collections::HashSet;

use sqlx::{PgConnection, Row};

use super::Fact;
use crate::once;

/// The facts that do not hold and are worth saying, in their order.
pub(crate) async fn wrong_of<'a>(
    connection: &mut PgConnection,
    facts: impl IntoIterator<Item = &'a Fact>,
) -> Result<Vec<&'a Fact>, sqlx::Error> {
    look(connection, facts).await.map(worth_saying)
}

/// What hangs on a table that is missing is not said: the table is.
pub(crate) fn worth_saying(wrong: Vec<&Fact>) -> Vec<&Fact> {
    let missing = missing_tables(&wrong);
    let stands = |fact: &&Fact| !fact.needs.as_deref().is_some_and(|it| missing.contains(it));
    wrong.into_iter().filter(stands).collect()
}

/// Every fact that does not hold. One that reads rows does not hold without its table.
pub(crate) async fn look<'a>(
    connection: &mut PgConnection,
    facts: impl IntoIterator<Item = &'a Fact>,
) -> Result<Vec<&'a Fact>, sqlx::Error> {
    let (rows, catalog): (Vec<_>, Vec<_>) = facts.into_iter().partition(|fact| fact.reads_rows);
    let mut wrong = refuted(connection, &catalog).await?;
    let missing = missing_tables(&wrong);
    let (unreadable, readable): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .partition(|fact| fact.needs.as_deref().is_some_and(|it| missing.contains(it)));
    wrong.extend(refuted(connection, &readable).await?);
    wrong.extend(unreadable);
    Ok(wrong)
}

fn missing_tables<'a>(wrong: &[&'a Fact]) -> HashSet<&'a str> {
    let missing = wrong.iter().filter(|fact| fact.wrong == "is missing");
    missing.filter_map(|fact| fact.object.strip_prefix("table ")).collect()
}

async fn refuted<'a>(
    connection: &mut PgConnection,
    facts: &[&'a Fact],
) -> Result<Vec<&'a Fact>, sqlx::Error> {
    if facts.is_empty() {
        return Ok(Vec::new());
    }
    let proofs: Vec<_> =
        facts.iter().map(|fact| format!("coalesce(({}), false)", fact.proof)).collect();
    let rows = once(connection, &format!("SELECT {}", proofs.join(",\n"))).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let mut wrong = Vec::new();
    for (place, fact) in facts.iter().enumerate() {
        if !row.try_get::<bool, _>(place)? {
            wrong.push(*fact);
        }
    }
    Ok(wrong)
}
