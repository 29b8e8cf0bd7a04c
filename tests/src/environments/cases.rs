//! The table: what is done to the database, and what is right then.

use futures_util::future::LocalBoxFuture;
use pgherald_testkit::packages::PostgresVersion;

use super::scene::Scene;

/// One environment.
pub(super) struct Case {
    pub(super) name: &'static str,
    /// Also part of `cargo xtask test`.
    pub(super) short: bool,
    /// The bridge reaches the server through a pooler in session mode.
    pub(super) pooled: bool,
    /// Another one than the default.
    pub(super) version: Option<PostgresVersion>,
    pub(super) encoding: &'static str,
    /// As the owner, after `setup` and before the bridge starts; `herald` is the bridge's role.
    pub(super) before: &'static [&'static str],
    pub(super) during: &'static [Step],
}

/// A course of its own, while rows flow: it says itself when none may.
pub(super) type Course = for<'a> fn(&'a Scene) -> LocalBoxFuture<'a, ()>;

/// What happens while rows flow, one after the other, with rows between.
pub(super) enum Step {
    /// A statement as the owner.
    Sql(&'static str),
    /// The same once every sink has every row, while nobody inserts.
    Quiet(&'static str),
    /// `pgherald setup`, while nobody inserts and every sink has every row.
    QuietSetup(&'static str),
    /// Every flow is refused: `/readyz` has these words; then the remedy is followed, and producers
    /// connect again.
    Refused {
        says: &'static [&'static str],
        remedy: &'static str,
    },
    Play(Course),
}

use Step::{Quiet, QuietSetup, Refused, Sql};

const fn setting(name: &'static str, before: &'static [&'static str]) -> Case {
    Case { before, ..change(name, &[]) }
}

pub(super) const fn change(name: &'static str, during: &'static [Step]) -> Case {
    let (version, encoding) = (None, "UTF8");
    Case { name, short: false, pooled: false, version, encoding, before: &[], during }
}

pub(super) const fn short(case: Case) -> Case {
    Case { short: true, ..case }
}

/// None of these may be noticed.
pub(super) const SETTINGS: &[Case] = &[
    short(setting(
        "everything at once",
        &[
            "ALTER ROLE herald SET search_path = public, pgherald, pg_catalog",
            "ALTER ROLE herald SET default_transaction_read_only = on",
            "ALTER ROLE herald SET default_transaction_isolation = 'serializable'",
            "ALTER ROLE herald SET statement_timeout = '100ms'",
            "ALTER ROLE herald SET lock_timeout = '100ms'",
            "ALTER ROLE herald SET idle_in_transaction_session_timeout = '100ms'",
            "ALTER ROLE herald SET datestyle = 'German'",
            "ALTER ROLE herald SET bytea_output = 'escape'",
        ],
    )),
    setting("an empty search path", &["ALTER DATABASE postgres SET search_path = ''"]),
    setting("read-only by default", &["ALTER ROLE herald SET default_transaction_read_only = on"]),
    setting(
        "serializable and deferrable",
        &[
            "ALTER ROLE herald SET default_transaction_isolation = 'serializable'",
            "ALTER ROLE herald SET default_transaction_deferrable = on",
        ],
    ),
    setting("statements of 100 ms", &["ALTER ROLE herald SET statement_timeout = '100ms'"]),
    setting("statements of 4 s", &["ALTER ROLE herald SET statement_timeout = '4s'"]),
    setting("idle sessions of 1 s", &["ALTER ROLE herald SET idle_session_timeout = '1s'"]),
    setting("transactions of 100 ms", &["ALTER ROLE herald SET transaction_timeout = '100ms'"]),
    setting("locks of 100 ms", &["ALTER ROLE herald SET lock_timeout = '100ms'"]),
    setting(
        "another language and encoding of the client",
        &[
            "ALTER ROLE herald SET client_encoding = 'LATIN1'",
            "ALTER ROLE herald SET datestyle = 'German'",
            "ALTER ROLE herald SET intervalstyle = 'iso_8601'",
            "ALTER ROLE herald SET timezone = 'Asia/Kathmandu'",
            "ALTER ROLE herald SET extra_float_digits = -15",
        ],
    ),
    setting(
        "plans that nobody wants",
        &[
            "ALTER ROLE herald SET enable_indexscan = off",
            "ALTER ROLE herald SET enable_seqscan = off",
            "ALTER ROLE herald SET plan_cache_mode = 'force_custom_plan'",
            "ALTER ROLE herald SET standard_conforming_strings = off",
        ],
    ),
    setting("another owner", &["CREATE ROLE other", "ALTER TABLE pgherald.outbox OWNER TO other"]),
    Case {
        pooled: true,
        ..setting("a pooler in session mode", &["ALTER ROLE herald SET statement_timeout = '4s'"])
    },
];

/// The flows go on, and may say so in the log.
pub(super) const CHANGES: &[Case] = &[
    short(change(
        "a rewriting ALTER TABLE",
        &[
            Sql("ALTER TABLE pgherald.outbox ADD COLUMN extra uuid DEFAULT gen_random_uuid()"),
            Sql("ALTER TABLE pgherald.outbox DROP COLUMN extra"),
        ],
    )),
    short(change(
        "TRUNCATE RESTART IDENTITY and a quick refill",
        &[
            Quiet("TRUNCATE pgherald.outbox RESTART IDENTITY"),
            Quiet("TRUNCATE pgherald.outbox RESTART IDENTITY"),
        ],
    )),
    change("TRUNCATE", &[Quiet("TRUNCATE pgherald.outbox")]),
    change(
        "VACUUM FULL, REINDEX and CLUSTER",
        &[
            Sql("VACUUM (FULL) pgherald.outbox"),
            Sql("REINDEX TABLE pgherald.outbox"),
            Sql("CLUSTER pgherald.outbox USING outbox_pkey"),
        ],
    ),
    change(
        "indexes, statistics and storage",
        &[
            Sql("CREATE INDEX extra ON pgherald.outbox (channel)"),
            Sql("ALTER TABLE pgherald.outbox SET (fillfactor = 50)"),
            Sql("ANALYZE pgherald.outbox"),
            Sql("DROP INDEX pgherald.extra"),
        ],
    ),
    change(
        "an exclusive lock for a while",
        &[Sql("BEGIN; LOCK TABLE pgherald.outbox; SELECT pg_sleep(3); COMMIT")],
    ),
    change(
        "every session of the bridge is ended",
        &[
            Sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'herald'"),
            Sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'herald'"),
        ],
    ),
    change(
        "another owner in mid-flow",
        &[Sql("CREATE ROLE other; ALTER TABLE pgherald.outbox OWNER TO other")],
    ),
    change(
        "the schema is dropped and installed again",
        &[QuietSetup("DROP SCHEMA pgherald CASCADE")],
    ),
    change("an increment of 2", &[Quiet("ALTER SEQUENCE pgherald.outbox_id_seq INCREMENT BY 2")]),
    change(
        "ids that anybody may choose",
        &[Quiet("ALTER TABLE pgherald.outbox ALTER COLUMN id SET GENERATED BY DEFAULT")],
    ),
    change(
        "the sequence is set forward",
        &[Sql(
            "SELECT setval('pgherald.outbox_id_seq', nextval('pgherald.outbox_id_seq') + 10000)",
        )],
    ),
];

/// The flows stop before anything is lost, and say what to do.
pub(super) const REFUSALS: &[Case] = &[
    short(change(
        "row security of the outbox",
        &[
            Sql("ALTER TABLE pgherald.outbox ENABLE ROW LEVEL SECURITY"),
            Refused {
                says: &["row security", "DISABLE ROW LEVEL SECURITY"],
                remedy: "ALTER TABLE pgherald.outbox DISABLE ROW LEVEL SECURITY",
            },
        ],
    )),
    change(
        "row security of the cursors",
        &[
            Sql("ALTER TABLE pgherald.cursor ENABLE ROW LEVEL SECURITY"),
            Refused {
                says: &["row security", "pgherald.cursor"],
                remedy: "ALTER TABLE pgherald.cursor DISABLE ROW LEVEL SECURITY",
            },
        ],
    ),
    short(change(
        "a sequence with CACHE",
        &[
            Quiet("ALTER SEQUENCE pgherald.outbox_id_seq CACHE 50"),
            Refused {
                says: &["CACHE 50", "ALTER COLUMN id SET CACHE 1", "connect again"],
                remedy: "ALTER TABLE pgherald.outbox ALTER COLUMN id SET CACHE 1",
            },
        ],
    )),
    change(
        "UNLOGGED",
        &[
            Sql("ALTER TABLE pgherald.outbox SET UNLOGGED"),
            Refused {
                says: &["UNLOGGED", "SET LOGGED"],
                remedy: "ALTER TABLE pgherald.outbox SET LOGGED",
            },
        ],
    ),
    change(
        "a privilege is taken away",
        &[
            Sql("REVOKE SELECT ON pgherald.outbox FROM herald"),
            Refused {
                says: &["may not read the outbox", "grant SELECT"],
                remedy: "GRANT SELECT ON pgherald.outbox TO herald",
            },
        ],
    ),
    change(
        "the table is renamed",
        &[
            Quiet("ALTER TABLE pgherald.outbox RENAME TO elsewhere"),
            Refused {
                says: &["pgherald.outbox", "setup"],
                remedy: "ALTER TABLE pgherald.elsewhere RENAME TO outbox",
            },
        ],
    ),
];
