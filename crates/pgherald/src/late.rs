//! `pgherald outbox late`: what becomes of rows that came in below a cursor.

use pgherald_core::rfc3339;
use pgherald_outbox::{LateDone, LateFilter, LateFlow, LateRow, late_drop, late_list, late_send};
use pgherald_postgres::PostgresError;

use crate::{cli::LateCommand, config::Database, output};

/// Does what is asked; true if the database did it.
pub(crate) async fn late(database: &Database, filter: &LateFilter, command: LateCommand) -> bool {
    let done = match command {
        LateCommand::List => list(database, filter).await,
        LateCommand::Send => send(database, filter).await,
        LateCommand::Drop => drop(database, filter).await,
    };
    match done {
        Ok(()) => true,
        Err(error) => {
            output::complain(&database.scrubber.scrub(&error.to_string()));
            false
        }
    }
}

async fn list(database: &Database, filter: &LateFilter) -> Result<(), PostgresError> {
    let mut none = true;
    let mut flow = |flow: &LateFlow| {
        none = false;
        output::print(&head(flow));
    };
    let mut row = |flow: &LateFlow, row: LateRow| output::print(&line(flow, &row));
    late_list(&database.settings, filter, &mut flow, &mut row).await?;
    if none {
        output::print(NONE);
    }
    Ok(())
}

const NONE: &str = "no rows below a cursor\n";

async fn send(database: &Database, filter: &LateFilter) -> Result<(), PostgresError> {
    let done = late_send(&database.settings, filter).await?;
    output::print(&told(&done, "will be sent"));
    Ok(())
}

async fn drop(database: &Database, filter: &LateFilter) -> Result<(), PostgresError> {
    let dropped = late_drop(&database.settings, filter).await?;
    let mut text = told(&dropped.flows, "dropped");
    if !dropped.flows.is_empty() {
        text += &format!(
            "{} deleted; what another sink still needs goes when that sink has it\n",
            rows(dropped.deleted)
        );
    }
    output::print(&text);
    Ok(())
}

fn head(flow: &LateFlow) -> String {
    let LateFlow { pipeline, sink, since, .. } = flow;
    format!("{pipeline}/{sink}: {} below the cursor since {}\n", rows(flow.rows), rfc3339(*since))
}

/// A channel's name is what somebody wrote: what is no plain text is escaped.
fn line(flow: &LateFlow, row: &LateRow) -> String {
    let channel = row.channel.escape_debug();
    format!("{}/{}  {}  {channel}  {}\n", flow.pipeline, flow.sink, row.id, row.created_at)
}

fn told(done: &[LateDone], what: &str) -> String {
    if done.is_empty() {
        return NONE.to_owned();
    }
    let line = |it: &LateDone| format!("{}/{}: {} {what}\n", it.pipeline, it.sink, rows(it.rows));
    done.iter().map(line).collect()
}

fn rows(count: u64) -> String {
    if count == 1 { "1 row".to_owned() } else { format!("{count} rows") }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn counts_and_rows_are_lines_and_a_channel_cannot_forge_one() {
        let flow = LateFlow {
            pipeline: "p".into(),
            sink: "s".into(),
            rows: 1,
            since: SystemTime::UNIX_EPOCH,
        };
        assert!(head(&flow).starts_with("p/s: 1 row below the cursor since 1970-01-01T"));
        let row = LateRow { id: 7, channel: "a\nb".into(), created_at: "2026".into() };
        assert_eq!(line(&flow, &row), "p/s  7  a\\nb  2026\n");
        let done = LateDone { pipeline: "p".into(), sink: "s".into(), rows: 20 };
        assert_eq!(told(&[done], "will be sent"), "p/s: 20 rows will be sent\n");
        assert_eq!(told(&[], "dropped"), NONE);
    }
}
