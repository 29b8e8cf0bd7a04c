//! Installs, upgrades and repairs the objects in schema `pgherald`, on a live system.
//!
//! What has to be true stands in [`crate::objects`], in steps. A step is one block of SQL that decides
//! by itself what it has to do, gives up after [`script::LOCK_TIMEOUT_MS`] when it would wait for a
//! lock, and excludes another setup by an advisory lock that it tries. `setup --print` shows the same
//! blocks.

mod script;
mod sequence;

use std::time::Duration;

use sqlx::PgConnection;
use tokio::time::sleep;

pub(crate) use self::sequence::sequences;
use crate::{
    CONNECT_TIMEOUT, PostgresError, PostgresSettings, bounded, connect,
    identity::{self, Adopt, Adopted},
    literal,
    objects::{self, Fact, OUTBOX, Step, look, steps, validations, worth_saying, wrong_of},
    once,
    schema::{SCHEMA_VERSION, SchemaState, installed_version},
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
    /// The role of an object-relational mapper, which also sees messages: created or granted.
    pub orm_role: Option<String>,
    /// Whether `pgherald.pg_notify` is installed.
    pub shadow_notify: Option<ShadowNotify>,
    /// Whether a sequence that stands below a cursor or an id is moved.
    pub repair: bool,
    /// What this database is, where the rows belong to another one.
    pub adopt: Option<Adopt>,
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
    /// It works, and somebody should know.
    Warning(String),
    /// Something that a person has to do; how.
    Left(String),
}

/// The whole setup as SQL for psql: complete, and harmless when it runs again. Connects to nothing.
#[must_use]
pub fn setup_script(options: &SetupOptions) -> String {
    script::whole(options)
}

/// Installs, upgrades or repairs. What is as it should be is only looked at. True if nothing is left
/// for a person to do.
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
) -> Result<bool, PostgresError> {
    let connection = connect(settings).await?;
    let mut installer = Installer { connection, pause: PAUSE, say };
    installer.run(&steps(), options).await
}

struct Installer<'a> {
    connection: PgConnection,
    pause: Duration,
    say: &'a mut (dyn FnMut(Progress) + Send),
}

impl Installer<'_> {
    async fn run(&mut self, steps: &[Step], options: &SetupOptions) -> Result<bool, PostgresError> {
        let whole = self.objects(steps).await?;
        if let Some(adopt) = options.adopt {
            self.adopt(adopt).await?;
        }
        if options.repair {
            self.repair_sequences().await?;
        }
        self.options(options).await?;
        self.validate().await?;
        Ok(self.sequences_are_ahead().await? && whole)
    }

    /// Makes every fact true that `setup` can make true. True if none is left.
    async fn objects(&mut self, steps: &[Step]) -> Result<bool, PostgresError> {
        let installed = self.installed().await?;
        match SchemaState::of(installed) {
            newer @ SchemaState::Newer(_) => {
                newer.require_usable()?;
            }
            _ if installed > Some(SCHEMA_VERSION) => return self.next_version(installed).await,
            _ => {}
        }
        let wrong = self.look(steps).await?;
        for step in steps.iter().filter(|step| step.can_repair_any(&wrong)) {
            let doing = format!("make {} what it should be", step.title);
            self.step(&doing, &script::step(step)).await?;
        }
        if installed < Some(SCHEMA_VERSION) {
            self.done(format!("schema pgherald: version {SCHEMA_VERSION} is installed"));
        } else {
            for fact in worth_saying(wrong).into_iter().filter(|fact| fact.is_repaired()) {
                self.done(format!("repaired: {}", fact.text()));
            }
            self.done(format!("schema pgherald is up to date: version {SCHEMA_VERSION}"));
        }
        self.tell_what_is_left(steps).await
    }

    /// Of a schema that a newer program made only what reading rests on is compared.
    async fn next_version(&mut self, installed: Option<i32>) -> Result<bool, PostgresError> {
        let version = installed.unwrap_or_default();
        self.done(format!("schema pgherald is up to date: version {version}"));
        let facts = objects::reading(OUTBOX);
        let left = self.wrong(&facts).await?;
        for fact in &left {
            (self.say)(Progress::Left(format!("{}; use the newer pgherald's setup", fact.text())));
        }
        Ok(left.is_empty())
    }

    async fn tell_what_is_left(&mut self, steps: &[Step]) -> Result<bool, PostgresError> {
        let left = worth_saying(self.look(steps).await?);
        for fact in &left {
            (self.say)(Progress::Left(format!("{}; {}", fact.text(), fact.fix())));
        }
        Ok(left.is_empty())
    }

    async fn look<'f>(&mut self, steps: &'f [Step]) -> Result<Vec<&'f Fact>, PostgresError> {
        let facts = steps.iter().flat_map(|step| &step.facts);
        let looking = look(&mut self.connection, facts);
        bounded("compare schema pgherald", CONNECT_TIMEOUT, looking).await
    }

    async fn wrong<'f>(&mut self, facts: &'f [Fact]) -> Result<Vec<&'f Fact>, PostgresError> {
        let looking = wrong_of(&mut self.connection, facts);
        bounded("compare schema pgherald", CONNECT_TIMEOUT, looking).await
    }

    /// Older rows that a check would refuse are in nobody's way.
    async fn validate(&mut self) -> Result<(), PostgresError> {
        let facts = validations();
        for fact in self.wrong(&facts).await? {
            let one = std::slice::from_ref(fact);
            self.step("look at older rows", &script::validation(fact)).await?;
            if !self.wrong(one).await?.is_empty() {
                let text = format!("{}: new rows are refused, older ones stay", fact.text());
                (self.say)(Progress::Warning(text));
            }
        }
        Ok(())
    }

    async fn adopt(&mut self, adopt: Adopt) -> Result<(), PostgresError> {
        let mut attempt = 1;
        let adopted = loop {
            let adopting = identity::adopt(&mut self.connection, adopt);
            match bounded("adopt the database", STEP_TIMEOUT, in_the_way(adopting)).await? {
                Ok(adopted) => break adopted,
                Err(error) => self.wait("adopt the database", &error, &mut attempt).await?,
            }
        };
        self.done(told(adopt, &adopted));
        Ok(())
    }

    async fn options(&mut self, options: &SetupOptions) -> Result<(), PostgresError> {
        if let Some(shadow) = options.shadow_notify {
            self.shadow_notify(shadow).await?;
        }
        if let Some(role) = &options.bridge_role {
            self.role(role, "may run the bridge", &script::bridge_role(role)).await?;
        }
        if let Some(role) = &options.send_role {
            self.role(role, "may send and nothing else", &script::send_role(role)).await?;
        }
        if let Some(role) = &options.orm_role {
            let may = "may send and read through pgherald.messages, other services' rows too";
            self.role(role, may, &script::orm_role(role)).await?;
        }
        Ok(())
    }

    /// A first shadow is refused while anybody may put objects before it; one that is there is not
    /// taken away from those who rely on it.
    async fn shadow_notify(&mut self, shadow: ShadowNotify) -> Result<(), PostgresError> {
        const FIX: &str = "REVOKE CREATE ON SCHEMA public FROM PUBLIC";
        let sql = format!(
            "SELECT {}, to_regprocedure('pgherald.pg_notify(text,text)') IS NOT NULL",
            script::PUBLIC_IS_OPEN
        );
        let rows = once(&mut self.connection, &sql);
        let rows = bounded("look at schema public", CONNECT_TIMEOUT, rows).await?;
        let says = |place| rows.first().is_some_and(|row| sqlx::Row::get(row, place));
        let (open, there): (bool, bool) = (says(0), says(1));
        if open && !there {
            return Err(PostgresError::blocked(script::OPEN_PUBLIC, format!("run `{FIX}`")));
        }
        if open {
            (self.say)(Progress::Warning(format!("{}; run `{FIX}`", script::OPEN_PUBLIC)));
        }
        self.step("install pgherald.pg_notify", &script::shadow_notify(shadow)).await?;
        self.done("pgherald.pg_notify is installed".to_owned());
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
            let running = in_the_way(once(&mut self.connection, sql));
            match bounded(doing, STEP_TIMEOUT, running).await? {
                Ok(_) => return Ok(()),
                Err(error) => self.wait(doing, &error, &mut attempt).await?,
            }
        }
    }

    /// Says who is in the way, and pauses; an error after the last attempt.
    async fn wait(
        &mut self,
        doing: &str,
        error: &sqlx::Error,
        attempt: &mut u32,
    ) -> Result<(), PostgresError> {
        if *attempt == ATTEMPTS_MAX {
            return Err(PostgresError::of(doing, error));
        }
        let why = error.as_database_error().map_or("", |error| error.message()).to_owned();
        let text = format!(
            "waiting to {doing}: {why}{}; attempt {attempt} of {ATTEMPTS_MAX}",
            self.blockers().await
        );
        (self.say)(Progress::Waiting(text));
        sleep(self.pause).await;
        *attempt += 1;
        Ok(())
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

/// What was adopted, in words.
fn told(adopt: Adopt, adopted: &Adopted) -> String {
    let Adopted { at_home, cursors, rows, replays } = adopted;
    if *at_home {
        return "the rows in schema pgherald belong to this database already: nothing changed (0 \
                cursors, 0 rows, 0 dead letters)"
            .to_owned();
    }
    match adopt {
        Adopt::Moved => format!(
            "this database takes the other one's place: {cursors} cursors go on, {rows} waiting \
             rows are sent, and {replays} dead letters that were marked to be sent again"
        ),
        Adopt::Copy => format!(
            "this database is a copy: {cursors} cursors were moved past {rows} waiting rows, and \
             {replays} dead letters are no longer marked to be sent again"
        ),
    }
}

/// Tells a lock that is in the way from every other error.
async fn in_the_way<T>(
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<Result<T, sqlx::Error>, sqlx::Error> {
    match work.await {
        Err(error) if !is_in_the_way(&error) => Err(error),
        done => Ok(done),
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
