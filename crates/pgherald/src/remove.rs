//! `pgherald remove`: forgets what holds back deletion.

use pgherald_outbox::Removal;
use pgherald_postgres::PostgresError;

use crate::{config::Database, output};

/// Forgets the cursors of a pipeline, or of one of its sinks; true if all of them are forgotten.
pub(crate) async fn remove(database: &Database, pipeline: &str, sink: Option<&str>) -> bool {
    let removals = pgherald_outbox::remove(&database.settings, pipeline, sink).await;
    let (text, clean) = told(pipeline, sink, &removals);
    output::print(&database.scrubber.scrub(&text));
    clean
}

/// What became of it, one line each, and whether that is what was asked for.
fn told(
    pipeline: &str,
    sink: Option<&str>,
    removals: &Result<Vec<Removal>, PostgresError>,
) -> (String, bool) {
    let what = sink.map_or_else(|| pipeline.to_owned(), |sink| format!("{pipeline}/{sink}"));
    let removals = match removals {
        Err(error) => return (format!("the cursors of {what} are still there: {error}\n"), false),
        Ok(removals) if removals.is_empty() => {
            return (format!("the database knows no cursor of {what}\n"), false);
        }
        Ok(removals) => removals,
    };
    let line = |removal: &Removal| {
        let Removal { pipeline, sink, carried_by } = removal;
        match carried_by {
            None => format!(
                "the cursor of {pipeline}/{sink} is forgotten; a bridge that is configured with it \
                 begins anew\n"
            ),
            Some(carrier) => format!(
                "the cursor of {pipeline}/{sink} stays: the flow is carried by {carrier}; stop that \
                 bridge, or take the sink out of its configuration, first\n"
            ),
        }
    };
    let clean = removals.iter().all(|removal| removal.carried_by.is_none());
    (removals.iter().map(line).collect(), clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_a_failure_and_names_its_carrier() {
        let removal = |sink: &str, carrier: Option<&str>| Removal {
            pipeline: "p".into(),
            sink: sink.into(),
            carried_by: carrier.map(str::to_owned),
        };
        let (text, clean) = told("p", None, &Ok(vec![removal("a", None)]));
        assert!(clean && text.starts_with("the cursor of p/a is forgotten"), "{text}");
        let both = Ok(vec![removal("a", None), removal("b", Some("pid 7"))]);
        let (text, clean) = told("p", None, &both);
        assert!(!clean && text.contains("p/b stays: the flow is carried by pid 7"), "{text}");
        assert!(!told("p", Some("x"), &Ok(Vec::new())).1);
        assert!(!told("p", None, &Err(PostgresError::transient("down"))).1);
    }
}
