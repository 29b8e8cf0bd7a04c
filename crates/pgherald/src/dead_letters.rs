//! `pgherald dead-letters`: what was rejected, and what becomes of it.

mod shown;

use pgherald_postgres::{Desk, Filter, PostgresError};

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
    let done = match Desk::open(&database.settings).await {
        Ok(mut desk) => work(&mut desk, filter, command).await,
        Err(error) => Err(error),
    };
    done.unwrap_or_else(|error| {
        output::complain(&database.scrubber.scrub(&error.to_string()));
        false
    })
}

async fn work(
    desk: &mut Desk,
    filter: &Filter,
    command: &DeadLettersCommand,
) -> Result<bool, PostgresError> {
    match command {
        DeadLettersCommand::List { format } => list(desk, filter, *format).await,
        DeadLettersCommand::Show { id, format } => show(desk, filter, id, *format).await,
        DeadLettersCommand::Replay { all: true, .. } => {
            let count = desk.replay_all(filter).await?;
            output::print(&format!("{} asked for again\n", counted(count)));
            Ok(true)
        }
        DeadLettersCommand::Replay { ids, .. } => {
            let found = desk.replay(filter, ids).await?;
            Ok(told(ids, &found, "asked for again"))
        }
        DeadLettersCommand::Purge { older_than_days: Some(days), .. } => {
            let count = desk.purge_older(filter, *days).await?;
            output::print(&format!("{} deleted\n", counted(count)));
            Ok(true)
        }
        DeadLettersCommand::Purge { ids, .. } => {
            let found = desk.purge(filter, ids).await?;
            Ok(told(ids, &found, "deleted"))
        }
    }
}

async fn list(
    desk: &mut Desk,
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
    desk.list(filter, &mut each).await?;
    match (format, first) {
        (DeadLetterFormat::Json, true) => output::print("[]\n"),
        (DeadLetterFormat::Json, false) => output::print("\n]\n"),
        (DeadLetterFormat::Text, _) => {}
    }
    Ok(true)
}

async fn show(
    desk: &mut Desk,
    filter: &Filter,
    id: &str,
    format: DeadLetterFormat,
) -> Result<bool, PostgresError> {
    let letters = desk.show(filter, id).await?;
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
