//! The blocks of SQL that a setup consists of.

use super::{SetupOptions, ShadowNotify};
use crate::{
    LockKey, dollar_quoted, identifier, literal,
    objects::{Cure, Fact, Step, steps, validations},
};

/// How long a step waits for a lock: for so long at most it holds up those who come behind it.
pub(super) const LOCK_TIMEOUT_MS: u32 = 2_000;

const SHADOW_BOTH: &str = include_str!("../../sql/shadow_notify.sql");
const SHADOW_ONLY: &str = include_str!("../../sql/shadow_notify_only.sql");
const BRIDGE_ROLE: &str = include_str!("../../sql/bridge_role.sql");
const BRIDGE_ROLE_PROOF: &str = include_str!("../../sql/bridge_role_proof.sql");
const SEND_ROLE: &str = include_str!("../../sql/send_role.sql");
const SEND_ROLE_PROOF: &str = include_str!("../../sql/send_role_proof.sql");
const ORM_ROLE: &str = include_str!("../../sql/orm_role.sql");
const ORM_ROLE_PROOF: &str = include_str!("../../sql/orm_role_proof.sql");

/// Everything, for a DBA.
pub(super) fn whole(options: &SetupOptions) -> String {
    let mut blocks = vec![format!(
        "-- pgherald {}: setup. Run it with psql -v ON_ERROR_STOP=1 -f FILE, as the role that is \
         to own schema pgherald.\n-- Each block is one statement that waits for a lock for {} s at \
         most and leaves no setting behind. It may run again at any time.\n",
        env!("CARGO_PKG_VERSION"),
        LOCK_TIMEOUT_MS / 1_000
    )];
    let steps = steps();
    blocks.extend(steps.iter().map(step));
    blocks.extend(options.shadow_notify.map(shadow_notify));
    blocks.extend(options.bridge_role.as_deref().map(bridge_role));
    blocks.extend(options.send_role.as_deref().map(send_role));
    blocks.extend(options.orm_role.as_deref().map(orm_role));
    blocks.extend(validations().iter().map(validation));
    blocks.push(what_is_left(&steps));
    blocks.join("\n")
}

/// Makes true what does not hold, and nothing else, in one transaction.
pub(super) fn step(step: &Step) -> String {
    let repairs = step.facts.iter().filter_map(|fact| match &fact.cure {
        Cure::Repair(sql) => Some(format!(
            "    IF NOT coalesce({}, false) THEN\n        EXECUTE {};\n    END IF;\n",
            fact.proof,
            dollar_quoted(&format!("\n{}\n", sql.trim_end()))
        )),
        Cure::Named(_) => None,
    });
    let repairs: String = repairs.collect();
    block(&format!("    -- {}\n{repairs}", step.title))
}

/// Looks whether older rows fulfil a check. Nobody waits for it.
pub(super) fn validation(fact: &Fact) -> String {
    let (Cure::Repair(sql) | Cure::Named(sql)) = &fact.cure;
    let text = literal(&format!("{}: new rows are refused, older ones stay", fact.text()));
    block(&format!(
        "    IF NOT coalesce({}, false) THEN
        BEGIN
            {sql};
        EXCEPTION WHEN check_violation THEN
            RAISE WARNING USING MESSAGE = {text};
        END;
    END IF;
",
        fact.proof
    ))
}

/// Says what a person has to do.
fn what_is_left(steps: &[Step]) -> String {
    let named = steps.iter().flat_map(|step| &step.facts).filter_map(|fact| match &fact.cure {
        Cure::Repair(_) => None,
        Cure::Named(_) => Some(format!(
            "    IF NOT coalesce({}, false) THEN\n        RAISE WARNING USING MESSAGE = {};\n    \
             END IF;\n",
            fact.proof,
            literal(&format!("{}; {}", fact.text(), fact.fix()))
        )),
    });
    let named: String = named.collect();
    block(&named)
}

pub(super) fn shadow_notify(shadow: ShadowNotify) -> String {
    let shadow = match shadow {
        ShadowNotify::Both => SHADOW_BOTH,
        ShadowNotify::Only => SHADOW_ONLY,
    };
    block(&format!("{}{shadow}", public_is_closed()))
}

/// The search path that makes the shadow work lets whoever may create objects in schema public put
/// them before PostgreSQL's own (CVE-2018-1058).
fn public_is_closed() -> String {
    let text = literal(OPEN_PUBLIC);
    format!(
        "    IF {PUBLIC_IS_OPEN} THEN
        IF to_regprocedure('pgherald.pg_notify(text,text)') IS NULL THEN
            RAISE EXCEPTION USING MESSAGE = {text}, ERRCODE = 'insufficient_privilege',
                HINT = 'REVOKE CREATE ON SCHEMA public FROM PUBLIC';
        END IF;
        RAISE WARNING USING MESSAGE = {text}, HINT = 'REVOKE CREATE ON SCHEMA public FROM PUBLIC';
    END IF;
"
    )
}

/// Whether PUBLIC may create objects in schema public.
pub(super) const PUBLIC_IS_OPEN: &str = "coalesce(has_schema_privilege('public', \
     to_regnamespace('public')::oid, 'CREATE'), false)";
pub(super) const OPEN_PUBLIC: &str = "every role may create objects in schema public, and the \
     search path that pg_notify is caught with would put them before PostgreSQL's own";

pub(super) fn bridge_role(role: &str) -> String {
    role_block(role, BRIDGE_ROLE, BRIDGE_ROLE_PROOF)
}

pub(super) fn send_role(role: &str) -> String {
    role_block(role, SEND_ROLE, SEND_ROLE_PROOF)
}

pub(super) fn orm_role(role: &str) -> String {
    role_block(role, ORM_ROLE, ORM_ROLE_PROOF)
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
        EXIT work;
    END IF;
{grants}    IF NOT ({proof})
    THEN
        RAISE EXCEPTION 'the grants had no effect' USING ERRCODE = 'insufficient_privilege',
            HINT = 'run the setup as the owner of schema pgherald';
    END IF;
"
    ))
}

/// One statement, in which nothing waits long and no other setup works. It puts back what it set: it
/// may be a part of a longer transaction, such as a migration's.
fn block(body: &str) -> String {
    let body = format!(
        "
DECLARE
    kept_path pg_catalog.text := pg_catalog.current_setting('search_path');
    kept_timeout pg_catalog.text := pg_catalog.current_setting('lock_timeout');
BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    PERFORM set_config('lock_timeout', '{LOCK_TIMEOUT_MS}', true);
    IF current_setting('server_version_num')::integer < 140000 THEN
        RAISE EXCEPTION 'PostgreSQL 14 or newer is needed' USING ERRCODE = 'feature_not_supported';
    END IF;
    IF NOT pg_try_advisory_xact_lock({}) THEN
        RAISE EXCEPTION 'another pgherald setup is at work' USING ERRCODE = 'lock_not_available';
    END IF;
    <<work>>
    BEGIN
{body}    END work;
    PERFORM set_config('search_path', kept_path, true);
    PERFORM set_config('lock_timeout', kept_timeout, true);
END
",
        LockKey::of_setup().get()
    );
    format!("DO {};\n", dollar_quoted(&body))
}
