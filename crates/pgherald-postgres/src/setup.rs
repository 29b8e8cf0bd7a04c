//! Installs and upgrades the objects in schema `pgherald`, on a live system.
//!
//! Every step is one block of SQL that decides by itself whether it has anything to do, gives up
//! after [`script::LOCK_TIMEOUT_MS`] when it would wait for a lock, and excludes another setup by an
//! advisory lock that it tries. `setup --print` shows the same blocks.

mod script;

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::sleep;

use self::script::{MIGRATIONS, Migration};
use crate::{
    CONNECT_TIMEOUT, PostgresError, PostgresSettings, bounded, connect, literal, once,
    schema::{SchemaState, installed_version},
};

/// How often a step is tried that has to wait for a lock.
const ATTEMPTS_MAX: u32 = 60;
/// Between two attempts everybody who waited behind the last one gets through.
const PAUSE: Duration = Duration::from_secs(1);
/// How long one step may take: longer than its locks, for it may rewrite nothing large.
const STEP_TIMEOUT: Duration = Duration::from_secs(60);

/// What is asked of a setup beyond the schema itself.
#[derive(Clone, Debug, Default)]
pub struct SetupOptions {
    /// The role that runs the bridge: created or granted.
    pub bridge_role: Option<String>,
    /// The role that may only send: created or granted.
    pub send_role: Option<String>,
    /// Whether `pgherald.pg_notify` is installed.
    pub shadow_notify: Option<ShadowNotify>,
}

/// What `pgherald.pg_notify` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowNotify {
    /// A row, and the real call.
    Both,
    /// The row alone.
    Only,
}

/// What a setup says while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A step is done.
    Done(String),
    /// A step waits; why, and since how many attempts.
    Waiting(String),
}

/// The whole setup as SQL for psql: complete, and harmless when it runs again. Connects to nothing.
#[must_use]
pub fn setup_script(options: &SetupOptions) -> String {
    script::whole(&MIGRATIONS, options)
}

/// Installs or upgrades. An up-to-date schema is only looked at.
///
/// # Errors
/// What an operator has to do, or that a lock could not be had in about three minutes. What is done
/// stays done: the next setup goes on from there.
///
/// # Cancellation
/// Safe: a step is one transaction.
pub async fn setup(
    settings: &PostgresSettings,
    options: &SetupOptions,
    say: &mut (dyn FnMut(Progress) + Send),
) -> Result<(), PostgresError> {
    let connection = connect(settings).await?;
    let mut installer = Installer { connection, pause: PAUSE, say };
    installer.migrate(&MIGRATIONS).await?;
    installer.options(options).await
}

struct Installer<'a> {
    connection: PgConnection,
    pause: Duration,
    say: &'a mut (dyn FnMut(Progress) + Send),
}

impl Installer<'_> {
    async fn migrate(&mut self, migrations: &[Migration]) -> Result<(), PostgresError> {
        let newest = migrations.last().map_or(0, |migration| migration.version);
        let installed = self.installed().await?;
        match SchemaState::of(installed) {
            newer @ SchemaState::Newer(_) => return newer.require_usable(),
            _ if installed >= Some(newest) => {
                let version = installed.unwrap_or(newest);
                self.done(format!("schema pgherald is up to date: version {version}"));
                return Ok(());
            }
            _ => {}
        }
        for migration in migrations.iter().filter(|m| Some(m.version) > installed) {
            let doing = format!("install version {} of schema pgherald", migration.version);
            self.step(&doing, &script::migration(migration)).await?;
            let version = migration.version;
            self.done(format!("schema pgherald: version {version} is installed"));
        }
        Ok(())
    }

    async fn options(&mut self, options: &SetupOptions) -> Result<(), PostgresError> {
        if let Some(shadow) = options.shadow_notify {
            self.step("install pgherald.pg_notify", &script::shadow_notify(shadow)).await?;
            self.done("pgherald.pg_notify is installed".to_owned());
        }
        if let Some(role) = &options.bridge_role {
            self.role(role, "may run the bridge", &script::bridge_role(role)).await?;
        }
        if let Some(role) = &options.send_role {
            self.role(role, "may send and nothing else", &script::send_role(role)).await?;
        }
        Ok(())
    }

    async fn role(&mut self, role: &str, may: &str, sql: &str) -> Result<(), PostgresError> {
        let known = self.knows_role(role).await?;
        self.step(&format!("grant role {role:?}"), sql).await?;
        self.done(match known {
            true => format!("role {role:?} {may}"),
            false => format!(
                "role {role:?} was created with LOGIN and without a password, and {may}; give it \
                 a password with \\password in psql, or let pg_hba.conf trust it otherwise"
            ),
        });
        Ok(())
    }

    /// Runs one block, again and again while a lock is in its way.
    async fn step(&mut self, doing: &str, sql: &str) -> Result<(), PostgresError> {
        let mut attempt = 1;
        loop {
            let running = bounded(doing, STEP_TIMEOUT, async {
                match once(&mut self.connection, sql).await {
                    Ok(_) => Ok(None),
                    Err(error) if is_in_the_way(&error) => Ok(Some(error)),
                    Err(error) => Err(error),
                }
            });
            let Some(error) = running.await? else { return Ok(()) };
            if attempt == ATTEMPTS_MAX {
                return Err(PostgresError::of(doing, &error));
            }
            let why = error.as_database_error().map_or("", |error| error.message()).to_owned();
            let text = format!(
                "waiting to {doing}: {why}{}; attempt {attempt} of {ATTEMPTS_MAX}",
                self.blockers().await
            );
            (self.say)(Progress::Waiting(text));
            sleep(self.pause).await;
            attempt += 1;
        }
    }

    async fn installed(&mut self) -> Result<Option<i32>, PostgresError> {
        let reading = installed_version(&mut self.connection);
        bounded("read the version of schema pgherald", CONNECT_TIMEOUT, reading).await
    }

    async fn knows_role(&mut self, role: &str) -> Result<bool, PostgresError> {
        let sql = format!("SELECT FROM pg_roles WHERE rolname = {}", literal(role));
        let reading = once(&mut self.connection, &sql);
        Ok(!bounded("read the roles", CONNECT_TIMEOUT, reading).await?.is_empty())
    }

    /// Who holds locks on pgherald's tables: the sessions to look at. Empty if nobody is seen.
    async fn blockers(&mut self) -> String {
        const SQL: &str = "SELECT coalesce(string_agg(DISTINCT format('pid %s (%s)', a.pid, \
             coalesce(nullif(a.application_name, ''), a.usename)), ', '), '') \
             FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid \
             JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
             WHERE l.granted AND l.pid <> pg_backend_pid() AND n.nspname = 'pgherald' \
             AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND a.state LIKE 'idle in transaction%'";
        let reading = once(&mut self.connection, SQL);
        let rows = bounded("read the locks", CONNECT_TIMEOUT, reading).await.unwrap_or_default();
        let who = rows.first().map(|row| sqlx::Row::get::<String, _>(row, 0)).unwrap_or_default();
        if who.is_empty() { who } else { format!("; idle in a transaction: {who}") }
    }

    fn done(&mut self, text: String) {
        (self.say)(Progress::Done(text));
    }
}

/// Whether somebody else's lock is what failed.
fn is_in_the_way(error: &sqlx::Error) -> bool {
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    const DEADLOCK: &str = "40P01";
    let state = error.as_database_error().and_then(|error| error.code());
    state.is_some_and(|state| state == LOCK_NOT_AVAILABLE || state == DEADLOCK)
}

#[cfg(test)]
mod tests;
