//! What `pgherald check` says about schema `pgherald`.

use pgherald_core::Finding;
use sqlx::{PgConnection, Row};

use crate::{
    CONNECT_TIMEOUT, Identity, PostgresError, PostgresSettings, SchemaState, bounded, connect,
    identity::{self, IdentityMatch, elsewhere},
    objects::{Fact, OUTBOX, Weight, offenders_sql, reading, steps, validations, wrong_of},
    once,
    schema::{SCHEMA_VERSION, installed_version},
    setup::sequences,
};

const SUBJECT: &str = "schema pgherald";

/// Compares every object in schema `pgherald` with what `setup` makes, the sequences with the
/// cursors, and the database with the one that the rows belong to. Takes no lock.
pub async fn check_schema(settings: &PostgresSettings, identity: Identity) -> Vec<Finding> {
    match inspect(settings, identity).await {
        Ok(findings) if findings.is_empty() => {
            vec![Finding::ok(SUBJECT, "every object is as `pgherald setup` makes it")]
        }
        Ok(findings) => findings,
        Err(fault) => {
            let fix = match fault.fix.as_str() {
                "" => "start the server, or mend the host and port",
                fix => fix,
            };
            vec![Finding::error(SUBJECT, fault.text.clone(), fix)]
        }
    }
}

async fn inspect(
    settings: &PostgresSettings,
    identity: Identity,
) -> Result<Vec<Finding>, PostgresError> {
    let mut connection = connect(settings).await?;
    let looking = installed_version(&mut connection);
    let installed = bounded("look at schema pgherald", CONNECT_TIMEOUT, looking).await?;
    SchemaState::of(installed).require_usable()?;
    let looking = objects(&mut connection, installed > Some(SCHEMA_VERSION));
    let mut findings = bounded("compare schema pgherald", CONNECT_TIMEOUT, looking).await?;
    if findings.iter().any(|finding| finding.level == pgherald_core::Level::Error) {
        return Ok(findings);
    }
    let looking = rows(&mut connection, identity);
    findings
        .extend(bounded("look at the rows in schema pgherald", CONNECT_TIMEOUT, looking).await?);
    Ok(findings)
}

/// Everything that `setup` makes, and what this very role cannot read.
async fn objects(connection: &mut PgConnection, next: bool) -> Result<Vec<Finding>, sqlx::Error> {
    let made: Vec<Fact> = match next {
        true => Vec::new(),
        false => steps().into_iter().flat_map(|step| step.facts).collect(),
    };
    let read = reading(OUTBOX);
    let mut wrong = wrong_of(connection, &made).await?;
    for fact in wrong_of(connection, &read).await? {
        let said = !next && wrong.iter().any(|known| known.object == fact.object);
        if !said {
            wrong.push(fact);
        }
    }
    Ok(wrong.into_iter().map(finding).collect())
}

fn finding(fact: &Fact) -> Finding {
    match fact.weight {
        Weight::Blocks => Finding::error(SUBJECT, fact.text(), fact.fix()),
        Weight::Warns => Finding::warning(SUBJECT, fact.text(), fact.fix()),
    }
}

async fn rows(
    connection: &mut PgConnection,
    identity: Identity,
) -> Result<Vec<Finding>, sqlx::Error> {
    let mut findings = offenders(connection).await?;
    findings.extend(
        sequences(connection)
            .await?
            .iter()
            .filter(|one| one.is_behind())
            .map(|one| Finding::error(SUBJECT, one.text(), "run `pgherald setup --repair`")),
    );
    if identity == Identity::This {
        findings.extend(whose(connection).await?);
    }
    Ok(findings)
}

/// Rows that were there before a check, and that it would refuse.
async fn offenders(connection: &mut PgConnection) -> Result<Vec<Finding>, sqlx::Error> {
    let facts = validations();
    let mut findings = Vec::new();
    for fact in wrong_of(connection, &facts).await? {
        let name = fact.object.split(' ').nth(1).unwrap_or_default();
        let Some(sql) = offenders_sql(name) else { continue };
        let rows = once(connection, &sql).await?;
        let count: i64 = rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0)?;
        let (text, fix) = match count {
            0 => (
                format!("check {name} is not validated; no row offends it"),
                "run `pgherald setup` as the owner of the schema",
            ),
            _ => (
                format!("{count} rows in {OUTBOX} offend the check {name}: they are older than it"),
                "they are carried or rejected like any other; run `pgherald setup` when they are \
                 gone",
            ),
        };
        findings.push(Finding::warning(SUBJECT, text, fix));
    }
    Ok(findings)
}

async fn whose(connection: &mut PgConnection) -> Result<Option<Finding>, sqlx::Error> {
    let (this, identity_match) = identity::look(connection).await?;
    Ok(match identity_match {
        IdentityMatch::Elsewhere(other) => {
            let error = elsewhere(&this, &other);
            Some(Finding::error(SUBJECT, error.text, error.fix))
        }
        _ if !this.knows_system() => Some(Finding::warning(
            SUBJECT,
            "the system identifier of this server cannot be read and is not compared: a copy on \
             another server may be taken for this database",
            "GRANT EXECUTE ON FUNCTION pg_control_system() TO the role of postgres.url, where the \
             provider allows it",
        )),
        _ => None,
    })
}
