//! What `pgherald check` says about an outbox.

use pgherald_core::Finding;
use pgherald_postgres::{PostgresError, PostgresSettings, Purpose, open, query, schema_state};
use sqlx::PgConnection;

use crate::{
    OutboxSettings, attach::session_settings, cursors, events::refused_events,
    flow::STATEMENT_WITHIN, late, report::came_in, retention::groups, server::TableFacts,
    traits::Traits, unrouted::Walk,
};

/// How long a scan of the table may take, of which there are a few.
const LOOK_WITHIN: std::time::Duration = std::time::Duration::from_secs(2);

/// Looks at the outbox as a flow would, takes no lock, and reports under `key` (the source's dotted
/// name) what keeps it from being read without loss, and what costs.
pub async fn check(
    postgres: &PostgresSettings,
    settings: &OutboxSettings,
    key: &str,
) -> Vec<Finding> {
    let subject = format!("{key}.table");
    match inspect(postgres, settings, &subject).await {
        Ok(findings) => findings,
        Err(fault) => {
            let fix = match fault.fix.as_str() {
                "" => "start the server, or mend the host and port".to_owned(),
                fix => fix.to_owned(),
            };
            vec![Finding::error(subject, fault.text, fix)]
        }
    }
}

async fn inspect(
    postgres: &PostgresSettings,
    settings: &OutboxSettings,
    subject: &str,
) -> Result<Vec<Finding>, PostgresError> {
    let (mut connection, _) = open(postgres, Purpose::Outbox, None).await?;
    let work = look(&mut connection, settings, subject);
    // Every statement is bounded by the server, too.
    match tokio::time::timeout(STATEMENT_WITHIN, work).await {
        Ok(found) => found,
        Err(_) => Err(PostgresError::transient("the server does not answer")),
    }
}

async fn look(
    connection: &mut PgConnection,
    settings: &OutboxSettings,
    subject: &str,
) -> Result<Vec<Finding>, PostgresError> {
    let of = |error: sqlx::Error| PostgresError::of("look at the outbox", &error);
    query(connection, &session_settings()).await.map_err(of)?;
    schema_state(connection).await.map_err(of)?.require_usable()?;
    let facts = TableFacts::require(connection, &settings.table).await?;
    let traits = Traits::read(connection, &facts).await.map_err(of)?;
    let mut findings: Vec<Finding> =
        traits.flaws(settings).into_iter().map(|flaw| flaw.finding(subject)).collect();
    findings.extend(stranded(connection, settings, subject).await.map_err(of)?);
    let refused = refused_events(connection, &settings.table, subject);
    findings.extend(refused.await.map_err(of)?);
    if findings.is_empty() {
        let text = format!("{} can be read without loss", settings.table);
        findings.push(Finding::ok(subject, text));
    }
    Ok(findings)
}

/// Rows that stay for ever: of channels that no registered sink takes, or below a cursor.
async fn stranded(
    connection: &mut PgConnection,
    settings: &OutboxSettings,
    subject: &str,
) -> Result<Vec<Finding>, sqlx::Error> {
    let look = cursors::look(connection, &settings.table).await?;
    let mut findings = Vec::new();
    for cursor in &look.cursors {
        let rows =
            late::rows_below(connection, &settings.table, &look, cursor, LOOK_WITHIN).await?;
        if rows > 0 {
            findings.push(Finding::error(
                subject,
                format!(
                    "{} below the cursor of {}: neither sent nor deleted until someone decides",
                    came_in(rows),
                    cursor.name()
                ),
                "look with `pgherald outbox late list`, then `pgherald outbox late send` or `drop`",
            ));
        }
    }
    let groups = groups(&look.cursors);
    if let Some(group) = groups.iter().find(|group| group.settled.is_none())
        && !look.cursors.is_empty()
    {
        let mut walk = Walk::default();
        walk.go_on(connection, &settings.table, group, LOOK_WITHIN).await?;
        findings.extend(walk.most().into_iter().map(|it| unrouted(it, settings, subject)));
    }
    Ok(findings)
}

fn unrouted((channel, rows): (String, u64), settings: &OutboxSettings, subject: &str) -> Finding {
    Finding::warning(
        subject,
        format!("no sink takes channel {channel:?}: {rows} rows stay in {}", settings.table),
        "add the channel to a sink, or delete the rows",
    )
}
