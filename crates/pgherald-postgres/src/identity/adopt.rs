//! What an operator decides about a copy: it is the original's successor, or it is a copy.

use sqlx::{PgConnection, Row};

use super::{Facts, IdentityMatch, look, renew_sql};
use crate::{pins::for_once, query};

/// What this database is, in the operator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adopt {
    /// The original's successor: what waits is sent.
    Moved,
    /// A copy: what waits is passed over.
    Copy,
}

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// Nothing: the rows belong to this database already.
    pub at_home: bool,
    /// Cursors.
    pub cursors: i64,
    /// Rows in their outboxes: they are sent, or were passed over.
    pub rows: i64,
    /// Dead letters that were marked to be sent again: they are sent, or were unmarked.
    pub replays: i64,
}

/// Takes the rows over, in one transaction that waits for a lock for two seconds at most.
pub(crate) async fn adopt(
    connection: &mut PgConnection,
    adopt: Adopt,
) -> Result<Adopted, sqlx::Error> {
    let (this, identity_match) = look(connection).await?;
    if matches!(identity_match, IdentityMatch::Home { .. }) {
        return Ok(Adopted { at_home: true, ..Adopted::default() });
    }
    let begin = format!("BEGIN; {}SET LOCAL lock_timeout = '2s'", for_once(connection));
    query(connection, &begin).await?;
    match within(connection, adopt, &this).await {
        Ok(adopted) => query(connection, "COMMIT").await.map(|_| adopted),
        Err(error) => {
            // The connection may be gone; then the transaction is, too.
            let _ = query(connection, "ROLLBACK").await;
            Err(error)
        }
    }
}

async fn within(
    connection: &mut PgConnection,
    adopt: Adopt,
    this: &Facts,
) -> Result<Adopted, sqlx::Error> {
    let mut adopted = Adopted::default();
    const TABLES: &str = "SELECT DISTINCT outbox FROM pgherald.cursor \
         WHERE to_regclass(outbox) IS NOT NULL ORDER BY 1";
    let tables = query(connection, TABLES).await?;
    for row in &tables {
        let table: String = row.try_get(0)?;
        adopted.rows += match adopt {
            Adopt::Moved => waiting(connection, &table).await?,
            Adopt::Copy => pass_over(connection, &table).await?,
        };
    }
    // Snapshots, oids and file nodes of another database say nothing here.
    let baseline = "UPDATE pgherald.cursor SET token = gen_random_uuid(), seen = NULL, \
         seen_high = NULL, seen_missing = '{}', seen_node = NULL, outbox_oid = NULL, \
         outbox_node = NULL, sequence_node = NULL RETURNING 1";
    adopted.cursors = count(connection, baseline).await?;
    adopted.replays = match adopt {
        Adopt::Moved => {
            let sql = format!("SELECT FROM pgherald.dead_letter WHERE {MARKED}");
            count(connection, &sql).await?
        }
        Adopt::Copy => {
            let sql = format!(
                "UPDATE pgherald.dead_letter SET replay_at = NULL WHERE {MARKED} RETURNING 1"
            );
            count(connection, &sql).await?
        }
    };
    query(connection, &renew_sql(this)).await?;
    Ok(adopted)
}

const MARKED: &str = "replay_at IS NOT NULL AND replayed_at IS NULL";

/// How many rows some cursor of this table has still to send.
async fn waiting(connection: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    let sql = format!(
        "SELECT FROM {table} AS o WHERE EXISTS (SELECT FROM pgherald.cursor c \
         WHERE c.outbox = {} AND (o.id > c.high OR c.missing @> o.id) \
         AND (c.channels IS NULL OR o.channel = ANY (c.channels)))",
        crate::literal(table)
    );
    count(connection, &sql).await
}

/// Moves every cursor of this table past everything that is in it. Nobody writes meanwhile: an id
/// that is not visible yet would otherwise be left behind.
async fn pass_over(connection: &mut PgConnection, table: &str) -> Result<i64, sqlx::Error> {
    query(connection, &format!("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")).await?;
    let waiting = waiting(connection, table).await?;
    let name = crate::literal(table);
    let sql = format!(
        "WITH newest AS (SELECT greatest(coalesce((SELECT max(id) FROM {table}), 0), \
         coalesce(pg_sequence_last_value(pg_get_serial_sequence({name}, 'id')::regclass), 0)) AS id) \
         UPDATE pgherald.cursor c SET high = n.id, missing = '{{}}', late = '{{}}', \
         late_since = NULL, left_channels = (SELECT coalesce(jsonb_object_agg(l.channel, \
         jsonb_build_object('high', n.id, 'missing', '{{}}')), '{{}}') \
         FROM jsonb_object_keys(c.left_channels) AS l (channel)) \
         FROM newest n WHERE c.outbox = {name}"
    );
    query(connection, &sql).await?;
    Ok(waiting)
}

async fn count(connection: &mut PgConnection, rows: &str) -> Result<i64, sqlx::Error> {
    let sql = format!("WITH counted AS ({rows}) SELECT count(*) FROM counted");
    let rows = query(connection, &sql).await?;
    rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)
}
