//! Which facts do not hold, in one or two statements that take no lock.

use std::collections::HashSet;

use sqlx::{PgConnection, Row};

use super::Fact;
use crate::once;

/// The facts that do not hold, in their order. What hangs on a table that is missing is not said:
/// the table is.
pub(crate) async fn wrong_of<'a>(
    connection: &mut PgConnection,
    facts: &'a [Fact],
) -> Result<Vec<&'a Fact>, sqlx::Error> {
    let (rows, catalog): (Vec<_>, Vec<_>) = facts.iter().partition(|fact| fact.reads_rows);
    let mut wrong = refuted(connection, &catalog).await?;
    let missing: HashSet<&str> = wrong
        .iter()
        .filter(|fact| fact.wrong == "is missing")
        .filter_map(|fact| fact.object.strip_prefix("table "))
        .collect();
    let stands = |fact: &&Fact| {
        let needs = fact.needs.as_deref();
        !needs.is_some_and(|table| missing.contains(table))
    };
    let readable: Vec<&Fact> = rows.into_iter().filter(stands).collect();
    let refuted_rows = refuted(connection, &readable).await?;
    wrong.extend(refuted_rows);
    let missing: HashSet<String> = missing.into_iter().map(str::to_owned).collect();
    wrong.retain(|fact| !fact.needs.as_ref().is_some_and(|table| missing.contains(table)));
    Ok(wrong)
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
    let sql = format!("SELECT {}", proofs.join(",\n"));
    let rows = once(connection, &sql).await?;
    let row = rows.first().ok_or(sqlx::Error::RowNotFound)?;
    let mut wrong = Vec::new();
    for (place, fact) in facts.iter().enumerate() {
        if !row.try_get::<bool, _>(place)? {
            wrong.push(*fact);
        }
    }
    Ok(wrong)
}
