//! What the command line asks for, with the part of the configuration that it needs.

use clap::{CommandFactory, error::ErrorKind};
use pgherald_core::Finding;
use pgherald_outbox::LateFilter;
use pgherald_postgres::{Filter, SetupOptions, setup_script};

use crate::{
    check,
    cli::{
        CheckFormat, Cli, Command, DeadLettersCommand, LateCommand, OutboxCommand, SetupArguments,
        StatusFormat,
    },
    config::{self, Address, Database, Environment, Loaded, Origin, Refused},
    dead_letters, health, late, output,
    remove::{self, Removing},
    run,
    scrub::Scrubber,
    setup, signals, status,
    tail::Tailing,
};

/// One command, ready to be done.
pub(crate) enum Job {
    Run(Loaded, Origin),
    Check(Loaded, CheckFormat, bool),
    Health(Address),
    Status(Address, StatusFormat),
    Setup(Database, SetupOptions),
    DeadLetters(Database, Filter, DeadLettersCommand),
    Remove(Database, Removing),
    Late(Database, LateFilter, LateCommand),
    Tail(Box<Tailing>),
    /// Nothing but a text.
    Print(String),
}

impl Job {
    /// Reads the configuration. Wrong usage ends the process here, as clap does it.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub(crate) fn prepare(cli: &Cli, environment: &Environment) -> Result<Self, Refused> {
        let load = || config::load(cli.config.as_deref(), environment);
        match &cli.command {
            Command::Run => {
                let origin =
                    Origin { option: cli.config.clone(), environment: environment.clone() };
                load().map(|loaded| Self::Run(loaded, origin))
            }
            Command::Check { format, watch } => {
                load().map(|loaded| Self::Check(loaded, *format, *watch))
            }
            Command::Config => load().map(|loaded| Self::Print(loaded.effective)),
            Command::Health => {
                config::load_address(cli.config.as_deref(), environment).map(Self::Health)
            }
            Command::Status { format } => {
                let address = config::load_address(cli.config.as_deref(), environment);
                address.map(|address| Self::Status(address, *format))
            }
            Command::Remove { pipeline, sink, dry_run } => {
                let database = config::load_database(cli.config.as_deref(), environment, None)?;
                // Only to tell what follows: what is wrong elsewhere is of no concern here.
                let starts = load().ok().map(|loaded| remove::starts(&loaded.settings));
                let (pipeline, sink) = (pipeline.clone(), sink.clone());
                let removing = Removing { pipeline, sink, dry_run: *dry_run, starts };
                Ok(Self::Remove(database, removing))
            }
            Command::Outbox { command: OutboxCommand::Late { pipeline, sink, command } } => {
                let database = config::load_database(cli.config.as_deref(), environment, None)?;
                let filter = LateFilter { pipeline: pipeline.clone(), sink: sink.clone() };
                Ok(Self::Late(database, filter, *command))
            }
            Command::DeadLetters { pipeline, sink, command } => {
                let database = config::load_database(cli.config.as_deref(), environment, None)?;
                let filter = Filter { pipeline: pipeline.clone(), sink: sink.clone() };
                Ok(Self::DeadLetters(database, filter, command.clone()))
            }
            Command::Tail(arguments) => {
                let tailing = Tailing::prepare(load()?, arguments);
                Ok(Self::Tail(Box::new(tailing.unwrap_or_else(|text| usage(text)))))
            }
            Command::Setup(arguments) => prepare_setup(arguments, cli, environment),
        }
    }

    /// What knows the secrets of the configuration, as far as one was read.
    pub(crate) fn scrubber(&self) -> Scrubber {
        match self {
            Self::Run(loaded, _) | Self::Check(loaded, ..) => loaded.scrubber.clone(),
            Self::Setup(database, _)
            | Self::DeadLetters(database, ..)
            | Self::Remove(database, ..)
            | Self::Late(database, ..) => database.scrubber.clone(),
            Self::Tail(tailing) => tailing.scrubber.clone(),
            Self::Health(_) | Self::Status(..) | Self::Print(_) => Scrubber::default(),
        }
    }

    /// Does it; true if it went well.
    pub(crate) async fn run(self) -> bool {
        match self {
            Self::Run(loaded, origin) => run::run(loaded, origin).await,
            Self::Check(loaded, format, true) => watch(&loaded, format).await,
            Self::Check(loaded, format, false) => {
                output::findings(&findings(&loaded).await, format, &loaded.scrubber)
            }
            Self::Health(address) => output::health(&address, health::ask(address.listen).await),
            Self::Status(address, format) => {
                output::status(&address, status::ask(address.listen).await, format)
            }
            Self::Setup(database, options) => setup::setup(&database, &options).await,
            Self::DeadLetters(database, filter, command) => {
                dead_letters::dead_letters(&database, &filter, &command).await
            }
            Self::Remove(database, removing) => remove::remove(&database, &removing).await,
            Self::Late(database, filter, command) => late::late(&database, &filter, command).await,
            Self::Tail(tailing) => tailing.run().await,
            Self::Print(text) => {
                output::print(&text);
                true
            }
        }
    }
}

/// Everything that `check` finds.
async fn findings(loaded: &Loaded) -> Vec<Finding> {
    let mut findings = check::check(&loaded.settings).await;
    findings.extend(loaded.memory.findings());
    findings
}

/// Checks until Ctrl-C or SIGTERM.
async fn watch(loaded: &Loaded, format: CheckFormat) -> bool {
    let check = || findings(loaded);
    check::watch(check, signals::stopped(), |before, now| match before {
        None => drop(output::findings(now, format, &loaded.scrubber)),
        Some(before) => output::changes(before, now, format, &loaded.scrubber),
    })
    .await
}

fn prepare_setup(
    arguments: &SetupArguments,
    cli: &Cli,
    environment: &Environment,
) -> Result<Job, Refused> {
    let options = arguments.options().unwrap_or_else(|text| usage(text));
    if arguments.print {
        return Ok(Job::Print(setup_script(&options)));
    }
    let database =
        config::load_database(cli.config.as_deref(), environment, arguments.url_file.as_deref())?;
    Ok(Job::Setup(database, options))
}

fn usage(text: String) -> ! {
    Cli::command().error(ErrorKind::ArgumentConflict, text).exit()
}
