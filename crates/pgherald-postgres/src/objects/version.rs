//! What is kept as rows beside the objects: their version, and the database that they belong to.

use super::{
    Cure, Fact,
    column::{Column, column},
    functions, proof,
    tables::table,
};
use crate::{identity, schema::SCHEMA_VERSION};

pub(super) const IDENTITY: &str = "pgherald.identity";
pub(super) const VERSION: &str = "pgherald.schema_version";

const IDENTITY_COLUMNS: [Column; 7] = [
    column("system_identifier", "int8").comment("NULL: it could not be read"),
    column("database_oid", "oid").not_null(),
    column("outbox_oid", "oid").comment("NULL: there was no pgherald.outbox"),
    column("database_name", "text").not_null(),
    column("outbox_name", "text").not_null().default("'pgherald.outbox'"),
    column("server_major", "int4").not_null(),
    column("noted_at", "timestamptz").not_null().clock(),
];

const VERSION_COLUMNS: [Column; 3] = [
    column("singleton", "bool").not_null().default("true"),
    column("version", "int4").not_null(),
    column("installed_at", "timestamptz").not_null().clock(),
];

/// Who may move a cursor runs the bridge, and reads this too.
const GRANT_IDENTITY: &str = "DO $grant$
DECLARE
    bridge record;
BEGIN
    FOR bridge IN SELECT DISTINCT a.grantee FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.oid = to_regclass('pgherald.cursor') AND a.privilege_type = 'UPDATE'
        AND a.grantee NOT IN (0, c.relowner)
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON pgherald.identity TO %s',
            bridge.grantee::regrole);
    END LOOP;
END
$grant$;\n";

pub(super) fn identity() -> Vec<Fact> {
    let comment = "The database that cursors, dead letters and rows belong to";
    let mut facts = table(IDENTITY, &IDENTITY_COLUMNS, "", comment, true);
    if let Cure::Repair(sql) = &mut facts[0].cure {
        sql.push_str(GRANT_IDENTITY);
    }
    facts.push(publishes_whole_rows(IDENTITY));
    let proof = format!("EXISTS (SELECT FROM {IDENTITY})");
    let fact = Fact::repaired(
        "identity of the database",
        "is not written down",
        proof,
        identity::note_sql(),
    );
    facts.push(fact.of(IDENTITY).reads_rows());
    facts
}

/// A table without a key in a database where everything is published.
fn publishes_whole_rows(table: &str) -> Fact {
    let proof = format!("NOT {}", proof::class(table, "relreplident <> 'f'"));
    let sql = format!("ALTER TABLE {table} REPLICA IDENTITY FULL");
    let wrong = "has no replica identity: a publication of all tables would stop its updates";
    Fact::repaired(format!("table {table}"), wrong, proof, sql).of(table).warns()
}

/// The version is a row, which programs of version 1 read, and a function, which a copy of the
/// schema alone brings along. The row has no key: a dump of data alone may bring another one.
pub(super) fn version() -> Vec<Fact> {
    const BEFORE_INSERT_FOR_EACH_ROW: i16 = 7;
    let mut facts = vec![functions::SCHEMA_VERSION.fact()];
    facts.extend(table(VERSION, &VERSION_COLUMNS, "", "What `pgherald setup` installed", true));
    facts.push(functions::KEEP_VERSION.fact());
    facts.push(publishes_whole_rows(VERSION));
    let keyless = format!(
        "NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = {} AND contype = 'p')",
        proof::oid(VERSION)
    );
    let sql = format!("ALTER TABLE {VERSION} DROP CONSTRAINT schema_version_pkey");
    let wrong = "is in the way of a dump of data alone";
    facts.push(
        Fact::repaired(format!("primary key of {VERSION}"), wrong, keyless, sql)
            .of(VERSION)
            .warns(),
    );
    let trigger = format!(
        "CREATE OR REPLACE TRIGGER keep_version BEFORE INSERT ON {VERSION} FOR EACH ROW EXECUTE \
         FUNCTION pgherald.keep_version();\nALTER TABLE {VERSION} ENABLE TRIGGER keep_version"
    );
    let wrong = "is missing, disabled or changed: a dump of data alone cannot be restored";
    let proof = proof::has_trigger(
        VERSION,
        "keep_version",
        "pgherald.keep_version()",
        BEFORE_INSERT_FOR_EACH_ROW,
    );
    let object = format!("trigger keep_version of {VERSION}");
    facts.push(Fact::repaired(object, wrong, proof, trigger).of(VERSION).warns());
    facts.push(version_row());
    facts
}

fn version_row() -> Fact {
    let proof = format!("EXISTS (SELECT FROM {VERSION} WHERE version >= {SCHEMA_VERSION})");
    let sql = format!(
        "UPDATE {VERSION} SET version = {SCHEMA_VERSION}, installed_at = clock_timestamp();\n\
         INSERT INTO {VERSION} (version) SELECT {SCHEMA_VERSION} \
         WHERE NOT EXISTS (SELECT FROM {VERSION})"
    );
    let object = format!("version {SCHEMA_VERSION} in {VERSION}");
    Fact::repaired(object, "is not written down", proof, sql).of(VERSION).reads_rows()
}
