//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Carries what PostgreSQL announces to Kafka and NATS, in order, and never loses anything
/// silently.
#[derive(Debug, Parser)]
#[command(name = "pgherald", version, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The configuration file [else $PGHERALD_CONFIG, else /etc/pgherald/pgherald.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// How log lines on standard error look; RUST_LOG says which ones appear
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Carry messages until SIGTERM or SIGINT, then drain within the deadline
    #[command(after_help = RUN_EXAMPLES)]
    Run,
    /// Validate the configuration, then test every connection, privilege, setting, topic and stream
    #[command(after_help = CHECK_EXAMPLES)]
    Check {
        /// How findings are printed: one line each, or one JSON document
        #[arg(long, value_enum, default_value_t = CheckFormat::Text)]
        format: CheckFormat,
    },
    /// Forget the cursor of an outbox's sink that no bridge carries any more: it holds back deletion
    #[command(after_help = REMOVE_EXAMPLES)]
    Remove {
        /// The pipeline whose sinks are forgotten
        #[arg(long, value_name = "NAME")]
        pipeline: String,
        /// Only this sink of it
        #[arg(long, value_name = "NAME")]
        sink: Option<String>,
    },
    /// Print the effective configuration with every default, secrets redacted
    #[command(after_help = CONFIG_EXAMPLES)]
    Config,
    /// Ask the running instance whether it is alive; for container health checks
    #[command(after_help = HEALTH_EXAMPLES)]
    Health,
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

const EXAMPLES: &str = "\
Examples:
  pgherald check --config pgherald.toml   is everything there that it needs?
  pgherald run --config pgherald.toml     carry messages
  pgherald config                         what takes effect, from file and environment
  pgherald health                         is the running instance alive?

Every key can also come from the environment:
  PGHERALD__POSTGRES__URL=postgres://app@db/app?sslmode=verify-full pgherald run

Exit codes: 0 clean, 1 failed, 2 bad configuration or usage.";

const RUN_EXAMPLES: &str = "\
Examples:
  pgherald run --config pgherald.toml
  pgherald run --log-format json
  RUST_LOG=debug,sqlx=info pgherald run

SIGTERM or SIGINT stops it: what was heard is delivered within shutdown.drain_deadline_ms. A second
signal ends it at once.

Exit codes: 0 drained, 1 messages were dropped at the deadline or an internal fault, 2 bad
configuration.";

const CHECK_EXAMPLES: &str = "\
Examples:
  pgherald check
  pgherald check --config pgherald.toml --format json

Exit codes: 0 no error (warnings are none), 1 an error was found, 2 bad configuration.";

const REMOVE_EXAMPLES: &str = "\
Examples:
  pgherald remove --pipeline billing --sink ledger
  pgherald remove --pipeline billing

Rows of an outbox are deleted when every sink that the database knows has settled them, so a sink
that is gone for good keeps them for ever: forget it here, after it is out of the configuration.
A bridge that is still configured with it begins anew, where `start` says.

Exit codes: 0 forgotten, 1 a running bridge carries the flow, there is no such cursor, or the
database refused.";

const CONFIG_EXAMPLES: &str = "\
Examples:
  pgherald config --config pgherald.toml
  PGHERALD__SHUTDOWN__DRAIN_DEADLINE_MS=5000 pgherald config";

const HEALTH_EXAMPLES: &str = "\
Examples:
  pgherald health
  HEALTHCHECK CMD [\"pgherald\", \"health\"]        in a Dockerfile

Exit codes: 0 alive, 1 no answer. A broker's outage is not a reason to restart the bridge, so this
is not readiness: see /readyz for that.";

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
    fn options_may_stand_behind_the_command() {
        let cli = Cli::try_parse_from(["pgherald", "check", "--config", "a", "--format", "json"]);
        let cli = cli.unwrap();
        assert_eq!(cli.config.unwrap(), PathBuf::from("a"));
        assert!(matches!(cli.command, Command::Check { format: CheckFormat::Json }));
        let usage = Cli::try_parse_from(["pgherald", "fly"]).unwrap_err();
        assert_eq!(usage.exit_code(), 2);
    }
}
