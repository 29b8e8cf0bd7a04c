//! The functions, each with the text that PostgreSQL keeps of it, so that another body is noticed.

use super::Fact;
use crate::{dollar_quoted, literal};

/// A function as `setup` makes it.
pub(super) struct Function {
    /// Its name and the types of its arguments, as `to_regprocedure` takes them.
    pub(super) signature: &'static str,
    /// The arguments as they are declared.
    arguments: &'static str,
    returns: &'static str,
    language: &'static str,
    /// `IMMUTABLE STRICT PARALLEL SAFE`, or nothing.
    traits: &'static str,
    /// Whether it sees nothing of the caller's search path.
    own_path: bool,
    body: &'static str,
    comment: &'static str,
}

const PATH: &str = "pg_catalog, pg_temp";

const DEFAULTS: &str = "key text DEFAULT NULL, headers jsonb DEFAULT '{}'";
const SEND_TEXT: &str = include_str!("../../sql/functions/send_text.sql");
const SEND_DOCUMENT: &str = include_str!("../../sql/functions/send_document.sql");
const SEND_BYTES: &str = include_str!("../../sql/functions/send_bytes.sql");

/// What every sink takes: texts under legal names (RFC 9110 tokens), none of them reserved. The
/// same list as in `pgherald-core`.
pub(super) const HEADERS_ARE_LEGAL: Function = Function {
    signature: "pgherald.headers_are_legal(jsonb)",
    arguments: "headers jsonb",
    returns: "boolean",
    language: "plpgsql",
    traits: "IMMUTABLE STRICT PARALLEL SAFE",
    own_path: true,
    body: include_str!("../../sql/functions/headers_are_legal.sql"),
    comment: "An object of texts, at most 16 KiB, with legal names and no reserved ones",
};

/// A statement that inserts wakes a reader that sleeps. A reader that is awake does not hold the
/// lock and costs nothing; the one that sleeps holds it and is told through NOTIFY, at commit.
pub(super) const RING: Function = Function {
    signature: "pgherald.ring()",
    arguments: "",
    returns: "trigger",
    language: "plpgsql",
    traits: "",
    own_path: false,
    body: include_str!("../../sql/functions/ring.sql"),
    comment: "Wakes a reader of the outbox that sleeps",
};

/// Says the version where only the schema is copied, without its rows.
pub(super) const SCHEMA_VERSION: Function = Function {
    signature: "pgherald.schema_version()",
    arguments: "",
    returns: "integer",
    language: "sql",
    traits: "IMMUTABLE PARALLEL SAFE",
    own_path: false,
    body: "SELECT 2",
    comment: "The version of these objects, where a copy has no row in pgherald.schema_version",
};

pub(super) const KEEP_VERSION: Function = Function {
    signature: "pgherald.keep_version()",
    arguments: "",
    returns: "trigger",
    language: "plpgsql",
    traits: "",
    own_path: true,
    body: include_str!("../../sql/functions/keep_version.sql"),
    comment: "Lets a dump of data alone be restored",
};

/// PL/pgSQL, because it keeps its plan from call to call in every version; SQL functions plan each
/// call before PostgreSQL 18. Everything is named in full: a caller's search path may say anything.
pub(super) const SENDING: [Function; 7] = [
    send(
        "pgherald.send(text,text,text,jsonb)",
        "payload text",
        SEND_TEXT,
        "Sends a text with the surrounding transaction; NULL is a tombstone",
    ),
    send(
        "pgherald.send(text,jsonb,text,jsonb)",
        "payload jsonb",
        SEND_DOCUMENT,
        "Sends a document as application/json",
    ),
    send(
        "pgherald.send(text,json,text,jsonb)",
        "payload json",
        SEND_DOCUMENT,
        "Sends a document as application/json, as it is written",
    ),
    send("pgherald.send(text,bytea,text,jsonb)", "payload bytea", SEND_BYTES, "Sends bytes"),
    send(
        "pgherald.send_text(text,text,text,jsonb)",
        "payload text",
        SEND_TEXT,
        "Sends a text, also where a driver leaves the types of parameters open",
    ),
    send(
        "pgherald.send_json(text,jsonb,text,jsonb)",
        "payload jsonb",
        SEND_DOCUMENT,
        "Sends a document, also where a driver leaves the types of parameters open",
    ),
    send(
        "pgherald.send_bytes(text,bytea,text,jsonb)",
        "payload bytea",
        SEND_BYTES,
        "Sends bytes, also where a driver leaves the types of parameters open",
    ),
];

const fn send(
    signature: &'static str,
    payload: &'static str,
    body: &'static str,
    comment: &'static str,
) -> Function {
    Function {
        signature,
        arguments: payload,
        returns: "bigint",
        language: "plpgsql",
        traits: "",
        own_path: false,
        body,
        comment,
    }
}

impl Function {
    /// It is there, and is what `setup` makes.
    pub(super) fn fact(&self) -> Fact {
        let object = format!("function {}", self.signature);
        let wrong = "is missing or was changed";
        Fact::repaired(object, wrong, self.proof(), self.definition())
    }

    fn proof(&self) -> String {
        let path = match self.own_path {
            true => format!("proconfig = ARRAY[{}]", literal(&format!("search_path={PATH}"))),
            false => "proconfig IS NULL".to_owned(),
        };
        let volatile = if self.traits.starts_with("IMMUTABLE") { 'i' } else { 'v' };
        format!(
            "EXISTS (SELECT FROM pg_proc WHERE oid = to_regprocedure({})::oid \
             AND prolang = (SELECT oid FROM pg_language WHERE lanname = {}) \
             AND prorettype = {}::regtype AND provolatile = '{volatile}' AND NOT prosecdef \
             AND {path} AND prosrc = {})",
            literal(self.signature),
            literal(self.language),
            literal(&format!("pg_catalog.{}", catalog_name(self.returns))),
            literal(self.body)
        )
    }

    fn definition(&self) -> String {
        let name = self.signature.split('(').next().unwrap_or_default();
        let arguments = match self.returns {
            "bigint" => format!("channel text, {}, {DEFAULTS}", self.arguments),
            _ => self.arguments.to_owned(),
        };
        let path = if self.own_path { format!(" SET search_path = {PATH}") } else { String::new() };
        format!(
            "CREATE OR REPLACE FUNCTION {name}({arguments}) RETURNS {} LANGUAGE {} {}{path} AS {};\n\
             COMMENT ON FUNCTION {} IS {};\n",
            self.returns,
            self.language,
            self.traits,
            dollar_quoted(self.body),
            self.signature,
            literal(self.comment)
        )
    }
}

/// The name of a type in `pg_type`.
fn catalog_name(kind: &str) -> &str {
    match kind {
        "boolean" => "bool",
        "integer" => "int4",
        "bigint" => "int8",
        other => other,
    }
}
