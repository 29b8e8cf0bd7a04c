//! `pgherald remove`: forgets what holds back deletion.

use std::collections::BTreeMap;

use pgherald_outbox::{Forecast, Removal, Start};
use pgherald_postgres::PostgresError;

use crate::{
    config::{Database, FlowPlan, Settings},
    output,
    sources::SourceSettings,
};

/// Where the configured flows begin, by pipeline and sink.
pub(crate) type Starts = BTreeMap<(String, String), Start>;

/// What is to be forgotten.
pub(crate) struct Removing {
    pub(crate) pipeline: String,
    /// `None`: every sink.
    pub(crate) sink: Option<String>,
    /// Only tell what it will cause.
    pub(crate) dry_run: bool,
    /// `None`: the configuration could not be read.
    pub(crate) starts: Option<Starts>,
}

/// Where the outbox flows of a configuration begin.
pub(crate) fn starts(settings: &Settings) -> Starts {
    let start = |plan: &FlowPlan| match &plan.source {
        SourceSettings::Outbox(outbox) => {
            let context = &plan.flow.context;
            Some(((context.pipeline.to_string(), context.sink.to_string()), outbox.start))
        }
        SourceSettings::Notify(_) => None,
    };
    settings.flows.iter().filter_map(start).collect()
}

/// Says what it will cause, and forgets the cursors; true if all of them are forgotten.
pub(crate) async fn remove(database: &Database, removing: &Removing) -> bool {
    let Removing { pipeline, sink, dry_run, starts } = removing;
    let sink = sink.as_deref();
    let clean = match pgherald_outbox::forecast(&database.settings, pipeline, sink).await {
        Ok(forecasts) => {
            let lines = forecasts.iter().map(|it| foretold(it, starts.as_ref()));
            output::print(&lines.collect::<String>());
            !forecasts.is_empty()
        }
        Err(error) => {
            let (text, _) = told(pipeline, sink, &Err(error));
            output::print(&database.scrubber.scrub(&text));
            return false;
        }
    };
    if *dry_run && clean {
        output::print("nothing was changed (--dry-run)\n");
        return true;
    }
    let removals = pgherald_outbox::remove(&database.settings, pipeline, sink).await;
    let (text, clean) = told(pipeline, sink, &removals);
    output::print(&database.scrubber.scrub(&text));
    clean
}

/// What forgetting one cursor will cause.
fn foretold(forecast: &Forecast, starts: Option<&Starts>) -> String {
    let Forecast { pipeline, sink, settled, waiting } = forecast;
    let flow = format!("{pipeline}/{sink}");
    let earliest =
        format!("{settled} rows that it has settled are sent again, {waiting} wait and are sent");
    let latest = format!("{waiting} rows that wait are skipped, none is sent again");
    let Some(starts) = starts else {
        return format!(
            "{flow}: with start = \"earliest\": {earliest}; with start = \"latest\": {latest} (the \
             configuration cannot be read, see `pgherald config`)\n"
        );
    };
    match starts.get(&(pipeline.clone(), sink.clone())) {
        Some(Start::Earliest) => format!("{flow}: with start = \"earliest\": {earliest}\n"),
        Some(Start::Latest) => format!("{flow}: with start = \"latest\": {latest}\n"),
        None => format!(
            "{flow}: not in this configuration: it does not begin anew, and {waiting} rows that wait \
             for it are not sent to it\n"
        ),
    }
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
            Some(runner) => format!(
                "the cursor of {pipeline}/{sink} stays: the flow is carried by {runner}; stop that \
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
    fn what_follows_is_told_by_the_configured_start() {
        let forecast = Forecast { pipeline: "p".into(), sink: "a".into(), settled: 3, waiting: 20 };
        let of = |start| foretold(&forecast, Some(&[(("p".into(), "a".into()), start)].into()));
        assert!(of(Start::Earliest).contains("3 rows that it has settled are sent again"));
        assert!(of(Start::Latest).contains("20 rows that wait are skipped"));
        assert!(foretold(&forecast, Some(&Starts::new())).contains("not in this configuration"));
        let both = foretold(&forecast, None);
        assert!(both.contains("earliest") && both.contains("latest"), "{both}");
    }

    #[test]
    fn what_stays_is_a_failure_and_names_its_carrier() {
        let removal = |sink: &str, runner: Option<&str>| Removal {
            pipeline: "p".into(),
            sink: sink.into(),
            carried_by: runner.map(str::to_owned),
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
