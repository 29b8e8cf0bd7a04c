//! The blocks of SQL that a setup consists of.

use super::{SetupOptions, ShadowNotify};
use crate::{LockKey, dollar_quoted, identifier, literal};

/// How long a step waits for a lock: for so long at most it holds up those who come behind it.
pub(super) const LOCK_TIMEOUT_MS: u32 = 2_000;

/// One version of the schema.
#[derive(Clone, Copy)]
pub(super) struct Migration {
    pub(super) version: i32,
    /// What makes it out of the version before, in one transaction. It must be short: what has to
    /// touch many rows is a version of its own that needs no lock.
    pub(super) sql: &'static str,
}

pub(super) const MIGRATIONS: [Migration; 2] = [
    Migration { version: 1, sql: include_str!("../../sql/0001_schema.sql") },
    Migration {
        version: 2,
        sql: concat!(
            include_str!("../../sql/0002_incarnations.sql"),
            include_str!("../../sql/0002_dead_letters.sql")
        ),
    },
];

const SHADOW_BOTH: &str = include_str!("../../sql/shadow_notify.sql");
const SHADOW_ONLY: &str = include_str!("../../sql/shadow_notify_only.sql");
const BRIDGE_ROLE: &str = include_str!("../../sql/bridge_role.sql");
const BRIDGE_ROLE_PROOF: &str = include_str!("../../sql/bridge_role_proof.sql");
const SEND_ROLE: &str = include_str!("../../sql/send_role.sql");
const SEND_ROLE_PROOF: &str = include_str!("../../sql/send_role_proof.sql");

/// Everything, for a DBA.
pub(super) fn whole(migrations: &[Migration], options: &SetupOptions) -> String {
    let mut blocks = vec![format!(
        "-- pgherald {}: setup. Run it with psql -v ON_ERROR_STOP=1 -f FILE, as the role that is \
         to own schema pgherald.\n-- Each block is a transaction of its own that waits for a lock \
         for {} s at most. It may run again at any time.\n",
        env!("CARGO_PKG_VERSION"),
        LOCK_TIMEOUT_MS / 1_000
    )];
    blocks.extend(migrations.iter().map(migration));
    blocks.extend(options.shadow_notify.map(shadow_notify));
    blocks.extend(options.bridge_role.as_deref().map(bridge_role));
    blocks.extend(options.send_role.as_deref().map(send_role));
    blocks.join("\n")
}

/// Makes one version out of the one before; nothing if it is there already.
pub(super) fn migration(migration: &Migration) -> String {
    let Migration { version, sql } = migration;
    block(&format!(
        "    IF to_regclass('pgherald.schema_version') IS NOT NULL THEN
        IF EXISTS (SELECT FROM pgherald.schema_version WHERE version >= {version}) THEN
            RETURN;
        END IF;
    END IF;
    EXECUTE {};
    INSERT INTO pgherald.schema_version (version) VALUES ({version})
        ON CONFLICT (singleton)
        DO UPDATE SET version = excluded.version, installed_at = excluded.installed_at;
",
        dollar_quoted(&format!("\n{sql}"))
    ))
}

pub(super) fn shadow_notify(shadow: ShadowNotify) -> String {
    block(match shadow {
        ShadowNotify::Both => SHADOW_BOTH,
        ShadowNotify::Only => SHADOW_ONLY,
    })
}

pub(super) fn bridge_role(role: &str) -> String {
    role_block(role, BRIDGE_ROLE, BRIDGE_ROLE_PROOF)
}

pub(super) fn send_role(role: &str) -> String {
    role_block(role, SEND_ROLE, SEND_ROLE_PROOF)
}

/// Creates a role if it is missing, and grants it what it does not have: GRANT locks the table.
/// PostgreSQL only warns of a grant by somebody who may not grant, so the effect is looked at.
fn role_block(role: &str, grants: &str, proof: &str) -> String {
    let (name, text) = (identifier(role), literal(role));
    let (grants, proof) = (grants.replace("{role}", &name), proof.replace("{role}", &text));
    let proof = proof.trim_end();
    block(&format!(
        "    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = {text}) THEN
        CREATE ROLE {name} LOGIN;
    ELSIF {proof}
    THEN
        RETURN;
    END IF;
{grants}    IF NOT ({proof})
    THEN
        RAISE EXCEPTION 'the grants had no effect' USING ERRCODE = 'insufficient_privilege',
            HINT = 'run the setup as the owner of schema pgherald';
    END IF;
"
    ))
}

/// One transaction, in which nothing waits long and no other setup works.
fn block(body: &str) -> String {
    let body = format!(
        "
BEGIN
    IF current_setting('server_version_num')::integer < 140000 THEN
        RAISE EXCEPTION 'PostgreSQL 14 or newer is needed' USING ERRCODE = 'feature_not_supported';
    END IF;
    PERFORM set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true);
    PERFORM set_config('search_path', 'pg_catalog, pg_temp', true);
    IF NOT pg_try_advisory_xact_lock({}) THEN
        RAISE EXCEPTION 'another pgherald setup is at work' USING ERRCODE = 'lock_not_available';
    END IF;
{body}END
",
        LockKey::of_setup().get()
    );
    format!("DO {};\n", dollar_quoted(&body))
}
