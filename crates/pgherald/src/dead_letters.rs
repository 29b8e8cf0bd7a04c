//! `pgherald dead-letters`: what was rejected, and what becomes of it.

mod shown;

use pgherald_postgres::{DeadLetterAdmin, Filter, PostgresError};

use self::shown::{document, line, page};
use crate::{
    cli::{DeadLetterFormat, DeadLettersCommand},
    config::Database,
    output,
};

/// Does what is asked; true if all of it could be done.
pub(crate) async fn dead_letters(
    database: &Database,
    filter: &Filter,
    command: &DeadLettersCommand,
) -> bool {
    let done = match DeadLetterAdmin::open(&database.settings).await {
        Ok(mut admin) => work(&mut admin, filter, command).await,
        Err(error) => Err(error),
    };
    done.unwrap_or_else(|error| {
        output::complain(&database.scrubber.scrub(&error.to_string()));
        false
    })
}

async fn work(
    admin: &mut DeadLetterAdmin,
    filter: &Filter,
    command: &DeadLettersCommand,
) -> Result<bool, PostgresError> {
    match command {
        DeadLettersCommand::List { format } => list(admin, filter, *format).await,
        DeadLettersCommand::Show { id, format } => show(admin, filter, id, *format).await,
        DeadLettersCommand::Replay { all: true, .. } => {
            let count = admin.replay_all(filter).await?;
            output::print(&format!("{} asked for again\n", counted(count)));
            Ok(true)
        }
        DeadLettersCommand::Replay { ids, .. } => {
            let found = admin.replay(filter, ids).await?;
            Ok(told(ids, &found, "asked for again"))
        }
        DeadLettersCommand::Purge { older_than_days: Some(days), .. } => {
            let count = admin.purge_older(filter, *days).await?;
            output::print(&format!("{} deleted\n", counted(count)));
            Ok(true)
        }
        DeadLettersCommand::Purge { ids, .. } => {
            let found = admin.purge(filter, ids).await?;
            Ok(told(ids, &found, "deleted"))
        }
    }
}

async fn list(
    admin: &mut DeadLetterAdmin,
    filter: &Filter,
    format: DeadLetterFormat,
) -> Result<bool, PostgresError> {
    let mut first = true;
    let mut each = |kept| {
        let text = match (format, std::mem::take(&mut first)) {
            (DeadLetterFormat::Text, _) => line(&kept),
            (DeadLetterFormat::Json, true) => format!("[\n{}", document(&kept)),
            (DeadLetterFormat::Json, false) => format!(",\n{}", document(&kept)),
        };
        output::print(&text);
    };
    admin.list(filter, &mut each).await?;
    match (format, first) {
        (DeadLetterFormat::Json, true) => output::print("[]\n"),
        (DeadLetterFormat::Json, false) => output::print("\n]\n"),
        (DeadLetterFormat::Text, _) => {}
    }
    Ok(true)
}

async fn show(
    admin: &mut DeadLetterAdmin,
    filter: &Filter,
    id: &str,
    format: DeadLetterFormat,
) -> Result<bool, PostgresError> {
    let letters = admin.show(filter, id).await?;
    let found: Vec<String> = letters.iter().map(|_| id.to_owned()).collect();
    output::print(&page(&letters, format));
    Ok(all_found(&[id.to_owned()], &found))
}

fn counted(count: i64) -> String {
    if count == 1 { "1 dead letter".to_owned() } else { format!("{count} dead letters") }
}

fn told(asked: &[String], found: &[String], what: &str) -> bool {
    for id in found {
        output::print(&format!("{id} {what}\n"));
    }
    all_found(asked, found)
}

/// Names the ids that match nothing.
fn all_found(asked: &[String], found: &[String]) -> bool {
    let missing = asked.iter().filter(|id| !found.contains(id));
    let mut all = true;
    for id in missing {
        output::complain(&format!(
            "there is no dead letter {id:?}; see pgherald dead-letters list"
        ));
        all = false;
    }
    all
}
