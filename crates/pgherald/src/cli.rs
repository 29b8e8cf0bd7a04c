//! The command line.

pub(crate) mod tail;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pgherald_postgres::{Adopt, SetupOptions, ShadowNotify};

pub(crate) use self::tail::{TailArguments, TailFormat};

/// Carries what PostgreSQL announces to Kafka, NATS and webhooks, in order, and never loses anything
/// silently.
#[derive(Debug, Parser)]
#[command(name = "pgherald", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The configuration file [else $PGHERALD_CONFIG, else /etc/pgherald/pgherald.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// The format of log lines on standard error; RUST_LOG selects which ones appear
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry messages until SIGTERM, SIGINT or SIGQUIT, then drain within the deadline
    #[command(after_help = RUN_EXAMPLES)]
    Run,
    /// Validate the configuration, then test every connection, privilege, setting, topic and stream
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// How findings are printed: one line each, or one JSON document
        #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
        format: CheckFormat,
        /// Repeat the check every few seconds until Ctrl-C, and print what has changed
        #[arg(long)]
        watch: bool,
    },
    /// Install, upgrade or repair the SQL objects in schema pgherald; safe to run again
    #[command(after_help = SETUP_EXAMPLES)]
    Setup(SetupArguments),
    /// Remove the cursor of a sink that no bridge serves any more, so that outbox rows can be deleted
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove {
        /// The pipeline whose cursors are removed
        #[arg(long, value_name = "NAME")]
        pipeline: String,
        /// Only the cursor of this sink
        #[arg(long, value_name = "NAME")]
        sink: Option<String>,
        /// Only print what would happen
        #[arg(long)]
        dry_run: bool,
    },
    /// Decide what happens to rows that came in below the cursor of a sink
    #[command(after_help = LATE_EXAMPLES)]
    Outbox {
        #[command(subcommand)]
        command: OutboxCommand,
    },
    /// Look at messages that a sink rejected, send them again, or delete them
    #[command(name = "dead-letters", after_help = DEAD_LETTERS_EXAMPLES)]
    DeadLetters {
        /// Only those of this pipeline
        #[arg(long, global = true, value_name = "NAME")]
        pipeline: Option<String>,
        /// Only those of this sink
        #[arg(long, global = true, value_name = "NAME")]
        sink: Option<String>,
        #[command(subcommand)]
        command: DeadLettersCommand,
    },
    /// Print messages as they pass; consumes nothing, delays nothing, and needs no running bridge
    #[command(after_help = tail::EXAMPLES)]
    Tail(TailArguments),
    /// Print the effective configuration with every default, secrets redacted
    #[command(after_help = CONFIG_EXAMPLES)]
    Config,
    /// Ask the running instance whether it is alive; for container health checks
    #[command(after_help = HEALTH_EXAMPLES)]
    Health,
    /// Show the flows of the running instance: their states, what waits, and why
    #[command(after_help = STATUS_EXAMPLES)]
    Status {
        /// How they are printed: a table, or the document of /status as it is
        #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
        format: StatusFormat,
    },
}

/// What to do with an outbox.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum OutboxCommand {
    /// Rows that came in below the cursor: restored from a backup, or with an id from a sequence
    /// that was set back
    #[command(after_help = LATE_EXAMPLES)]
    Late {
        /// Only those of this pipeline
        #[arg(long, global = true, value_name = "NAME")]
        pipeline: Option<String>,
        /// Only those of this sink
        #[arg(long, global = true, value_name = "NAME")]
        sink: Option<String>,
        #[command(subcommand)]
        command: LateCommand,
    },
}

/// What to do with rows below a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum LateCommand {
    /// Print them, one line each, without payloads
    #[command(after_help = LATE_EXAMPLES)]
    List,
    /// Let the bridge send them to the sinks that had passed their ids, outside the usual order
    #[command(after_help = LATE_EXAMPLES)]
    Send,
    /// Give them up: delete those that no other sink still needs
    #[command(after_help = LATE_EXAMPLES)]
    Drop,
}

/// What to do with dead letters.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum DeadLettersCommand {
    /// One line each, oldest first, without payloads
    #[command(after_help = DEAD_LETTERS_EXAMPLES)]
    List {
        /// How they are printed
        #[arg(long, value_enum, default_value_t = DeadLetterFormat::Text)]
        format: DeadLetterFormat,
    },
    /// Everything about one, with its payload
    #[command(after_help = DEAD_LETTERS_EXAMPLES)]
    Show {
        /// The message's id
        id: String,
        /// How it is printed
        #[arg(long, value_enum, default_value_t = DeadLetterFormat::Text)]
        format: DeadLetterFormat,
    },
    /// Let the running bridge send them again, to the sink that rejected them, out of order
    #[command(after_help = DEAD_LETTERS_EXAMPLES)]
    Replay {
        /// The messages' ids
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
        ids: Vec<String>,
        /// All that have not been sent again yet
        #[arg(long)]
        all: bool,
    },
    /// Delete them
    #[command(after_help = DEAD_LETTERS_EXAMPLES)]
    Purge {
        /// The messages' ids
        #[arg(
            required_unless_present = "older_than_days",
            conflicts_with = "older_than_days",
            value_name = "ID"
        )]
        ids: Vec<String>,
        /// All that are older than this and do not wait to be sent again
        #[arg(long, value_name = "N")]
        older_than_days: Option<u32>,
    },
}

/// How dead letters are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeadLetterFormat {
    /// For people
    Text,
    /// One JSON document
    Json,
}

/// What is installed, and for whom.
#[derive(Args, Clone, Debug)]
pub(crate) struct SetupArguments {
    /// Only print the SQL, for a DBA to run with psql; connects to nothing
    #[arg(long)]
    pub(crate) print: bool,

    /// Create or grant the role that runs the bridge
    #[arg(long, value_name = "NAME", value_parser = role)]
    pub(crate) bridge_role: Option<String>,

    /// Create or grant the role that may only send
    #[arg(long, value_name = "NAME", value_parser = role)]
    pub(crate) send_role: Option<String>,

    /// Create or grant the role of an object-relational mapper: it writes and reads the view
    /// pgherald.messages, and so sees what other services send
    #[arg(long, value_name = "NAME", value_parser = role)]
    pub(crate) orm_role: Option<String>,

    /// Move a sequence that is below an id or a cursor (after a restore of the data alone, or a
    /// cut-over by logical replication)
    #[arg(long, conflicts_with = "print")]
    pub(crate) repair: bool,

    /// Say what this database is if its rows belong to another database
    #[arg(long, value_enum, value_name = "WHAT", require_equals = true, conflicts_with = "print")]
    pub(crate) adopt: Option<AdoptAs>,

    /// Add pgherald.pg_notify, which catches an application's pg_notify calls. It inserts a row, and
    /// calls the real function unless `only` is set. Refused while every role may create objects in
    /// schema public
    #[arg(long, value_enum, value_name = "WHAT", num_args = 0..=1, require_equals = true,
          default_missing_value = "both")]
    pub(crate) shadow_notify: Option<Shadow>,

    /// A file with the connection URL, used instead of postgres.url: setup may need another role
    #[arg(long, value_name = "FILE")]
    pub(crate) url_file: Option<PathBuf>,
}

/// What pgherald.pg_notify does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shadow {
    /// Insert a row, and call the real function
    Both,
    /// Only insert the row
    Only,
}

/// What a database is that has the rows of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AdoptAs {
    /// It replaces the original: waiting rows are sent
    Moved,
    /// It is a copy: waiting rows are skipped
    Copy,
}

impl SetupArguments {
    /// One role cannot be both: the bridge reads what the other one may not.
    pub(crate) fn options(&self) -> Result<SetupOptions, String> {
        for (other, name) in [(&self.send_role, "--send-role"), (&self.orm_role, "--orm-role")] {
            if self.bridge_role.is_some() && self.bridge_role == *other {
                return Err(format!("--bridge-role and {name} name one role; name two"));
            }
        }
        let adopt = |adopt| match adopt {
            AdoptAs::Moved => Adopt::Moved,
            AdoptAs::Copy => Adopt::Copy,
        };
        let shadow = |shadow| match shadow {
            Shadow::Both => ShadowNotify::Both,
            Shadow::Only => ShadowNotify::Only,
        };
        Ok(SetupOptions {
            bridge_role: self.bridge_role.clone(),
            send_role: self.send_role.clone(),
            orm_role: self.orm_role.clone(),
            repair: self.repair,
            adopt: self.adopt.map(adopt),
            shadow_notify: self.shadow_notify.map(shadow),
        })
    }
}

/// The name of a role, as PostgreSQL keeps it whole.
fn role(name: &str) -> Result<String, String> {
    const NAME_BYTES_MAX: usize = 63;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains('\0') {
        return Err(format!("a role's name has 1 to {NAME_BYTES_MAX} bytes"));
    }
    Ok(name.to_owned())
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CheckFormat {
    /// One line a finding
    Text,
    /// One JSON document
    Json,
}

/// How the flows are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFormat {
    /// For people
    Text,
    /// One JSON document
    Json,
}

const EXAMPLES: &str = "\
Examples:
  pgherald check --config pgherald.toml   test whether everything is there that it needs
  pgherald setup --config pgherald.toml   install the outbox and the table for dead letters
  pgherald run --config pgherald.toml     carry messages
  pgherald config                         print the effective configuration
  pgherald status                         show the flows of the running instance
  pgherald tail                           print messages as they pass
  pgherald health                         test whether the running instance is alive

Every key can also come from the environment:
  PGHERALD__POSTGRES__URL=postgres://app@db/app?sslmode=verify-full pgherald run

Exit codes: 0 clean, 1 failed, 2 bad configuration or usage.";

const RUN_EXAMPLES: &str = "\
Examples:
  pgherald run --config pgherald.toml
  pgherald run --log-format json
  RUST_LOG=debug,sqlx=info pgherald run

SIGTERM, SIGINT or SIGQUIT stops it: it delivers what it has received, within
shutdown.drain_deadline_ms. A second signal ends it at once. On SIGHUP it checks the configuration and
the files that it names again, and logs the result.

Exit codes: 0 drained, 1 messages were dropped at the deadline or there was an internal fault, 2 bad
configuration.";

const CHECK_EXAMPLES: &str = "\
Examples:
  pgherald check
  pgherald check --config pgherald.toml --format json
  pgherald check --watch                  while you repair what it found

With --watch the configuration is read once; files that it names are read at each check. It prints all
findings, then only those that change, each with the time; `gone` is one that is not found any more.
With --format json it prints the whole document whenever something changes.

Exit codes: 0 no error (warnings do not count as errors), 1 an error was found (with --watch: by the last
check), 2 bad configuration.";

const SETUP_EXAMPLES: &str = "\
Examples:
  pgherald setup --config pgherald.toml
  pgherald setup --bridge-role pgherald --send-role app
  pgherald setup --url-file /run/secrets/owner-url      with another role than the bridge's
  PGHERALD__POSTGRES__URL=postgres://owner@db/app?sslmode=verify-full pgherald setup
  pgherald setup --print --send-role app | psql -v ON_ERROR_STOP=1
  pgherald setup --orm-role shop                        a role that sends through an ORM
  pgherald setup --repair                               after a restore of the data alone
  pgherald setup --adopt=copy                           in a copy of a database
  pgherald setup --shadow-notify       after: REVOKE CREATE ON SCHEMA public FROM PUBLIC
                                       then: ALTER ROLE app SET search_path = public, pgherald, pg_catalog

Only [postgres] of the configuration is read. A role that is missing is created with LOGIN and
without a password. No step waits for a lock longer than 2 s: setup then names the session that holds
the lock, and tries again for about three minutes. It repairs objects that differ from what it installs,
or prints the statement that repairs them.

Exit codes: 0 everything is there, 1 the installation failed or something is left to do, 2 bad
configuration or usage.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  pgherald remove --pipeline billing --sink ledger --dry-run    print what would happen
  pgherald remove --pipeline billing --sink ledger
  pgherald remove --pipeline billing

Rows of an outbox are deleted when every sink with a cursor in the database has settled them. So a sink
that was removed for good keeps all rows in the table: take it out of the configuration, then remove its
cursor with this command. If a bridge still has the sink in its configuration, the sink starts again as
`start` says: the rows that are still in the table are sent again (`earliest`), or the waiting ones are
skipped (`latest`). The command prints first how many rows that are.

Exit codes: 0 removed, or printed with --dry-run, 1 a running bridge carries the flow, there is no such
cursor, or the database refused.";

const LATE_EXAMPLES: &str = "\
Examples:
  pgherald outbox late list
  pgherald outbox late list --pipeline billing --sink ledger
  pgherald outbox late send --pipeline billing
  pgherald outbox late drop --pipeline billing --sink ledger

A row that is restored from a backup, or gets its id from a sequence that was set back, comes in below
the cursor of a sink that has passed that id. It is neither sent nor deleted, and /readyz says so, until
you send or drop it here. A running bridge sends it within seconds, otherwise the next start does. Only
[postgres] of the configuration is read.

Exit codes: 0 done, also if there was no such row, 1 the database could not be reached or refused, 2 bad
configuration or usage.";

const DEAD_LETTERS_EXAMPLES: &str = "\
Examples:
  pgherald dead-letters list
  pgherald dead-letters list --pipeline orders --sink bus --format json
  pgherald dead-letters show 1795449600000000-42
  pgherald dead-letters replay 1795449600000000-42
  pgherald dead-letters replay --all --sink bus
  pgherald dead-letters purge --older-than-days 30

A replay marks dead letters. The bridge that runs the flow sends them within seconds, after what it is
sending at that moment, so they arrive out of order. A message that is rejected again stays, with the
new reason. Only [postgres] of the configuration is read.

Exit codes: 0 done, 1 the database could not be reached or an id matches nothing, 2 bad
configuration or usage.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  pgherald config --config pgherald.toml
  PGHERALD__SHUTDOWN__DRAIN_DEADLINE_MS=5000 pgherald config";

const HEALTH_EXAMPLES: &str = "\
Examples:
  pgherald health
  HEALTHCHECK CMD [\"pgherald\", \"health\"]        in a Dockerfile

It reads only admin.listen, because the rest of the file may already be edited for the next start.

It tests liveness, not readiness (/readyz), because an outage of a broker is no reason to restart the
bridge.

Exit codes: 0 alive, 1 no answer, 2 admin.listen is not an address.";

const STATUS_EXAMPLES: &str = "\
Examples:
  pgherald status
  pgherald status --config pgherald.toml --format json
  watch -n 1 pgherald status

It reads only admin.listen, as `pgherald health` does, and asks the running instance. Under the table
there is one line for each thing that needs attention: why a flow is not ready, what the oldest message
was last answered, channels that no sink takes, rows below a cursor.

Exit codes: 0 printed, also if a flow is not ready (/readyz tests that), 1 no answer, 2 admin.listen is
not an address.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_every_command_shows_examples() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        assert!(command.render_long_help().to_string().contains("Examples:"));
        for sub in command.get_subcommands_mut().filter(|sub| sub.get_name() != "help") {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{help}");
        }
    }

    #[test]
    fn what_a_setup_may_be_asked() {
        let setup = |arguments: &[&str]| {
            let all = ["pgherald", "setup"].iter().chain(arguments);
            match Cli::try_parse_from(all).map_err(|error| error.to_string())?.command {
                Command::Setup(arguments) => arguments.options(),
                _ => unreachable!("setup was asked for"),
            }
        };
        assert_eq!(setup(&[]).unwrap().shadow_notify, None);
        let both = setup(&["--shadow-notify", "--send-role", "app"]).unwrap();
        assert_eq!(both.shadow_notify, Some(ShadowNotify::Both));
        let only = setup(&["--shadow-notify=only"]).unwrap();
        assert_eq!(only.shadow_notify, Some(ShadowNotify::Only));
        assert!(setup(&["--send-role", ""]).unwrap_err().contains("1 to 63 bytes"));
        assert!(
            setup(&["--send-role", "a", "--bridge-role", "a"]).unwrap_err().contains("name two")
        );
    }

    #[test]
    fn options_may_stand_behind_the_command() {
        let cli = Cli::try_parse_from(["pgherald", "check", "--config", "a", "--format", "json"]);
        let cli = cli.unwrap();
        assert_eq!(cli.config.unwrap(), PathBuf::from("a"));
        assert!(matches!(cli.command, Command::Check { format: CheckFormat::Json, watch: false }));
        let usage = Cli::try_parse_from(["pgherald", "fly"]).unwrap_err();
        assert_eq!(usage.exit_code(), 2);
    }
}
