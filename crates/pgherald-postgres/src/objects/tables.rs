//! The tables and what hangs on them, step by step in the order in which they can be made.

use super::{
    Fact, OUTBOX, Step, checks,
    column::{Column, column},
    functions::{self, Function},
    proof, version,
};
pub(super) const CURSOR: &str = "pgherald.cursor";
const DEAD_LETTER: &str = "pgherald.dead_letter";

pub(super) const OUTBOX_COLUMNS: [Column; 8] = [
    column("id", "int8").identity(),
    column("created_at", "timestamptz").not_null().clock(),
    column("channel", "text").not_null(),
    column("key", "text"),
    column("headers", "jsonb").not_null().default("'{}'"),
    column("content_type", "text"),
    column("payload", "text"),
    column("payload_bytes", "bytea"),
];

/// A position belongs to one incarnation of the outbox, of its sequence and of the cursor's own row.
pub(super) const CURSOR_COLUMNS: [Column; 19] = [
    column("pipeline", "text").not_null(),
    column("sink", "text").not_null(),
    column("high", "int8")
        .not_null()
        .comment("Everything up to this id is settled, but for `missing`"),
    column("missing", "int8multirange")
        .not_null()
        .default("'{}'")
        .comment("Ids below `high` that were not yet visible"),
    column("settled_at", "timestamptz").not_null().clock(),
    column("outbox", "text")
        .not_null()
        .default("'pgherald.outbox'")
        .comment("The table that it reads"),
    column("channels", "_text").comment("The channels that it takes; NULL: all"),
    column("token", "uuid").comment(
        "Changes with every write of the position; a bridge that finds another one reads the row \
         again",
    ),
    column("outbox_oid", "oid").comment("The table that the position belongs to"),
    column("outbox_node", "oid")
        .comment("Its file node at the latest attach: another one after TRUNCATE or a rewrite"),
    column("sequence_node", "oid")
        .comment("The file node of its sequence: another one after TRUNCATE RESTART IDENTITY"),
    column("left_channels", "jsonb")
        .not_null()
        .default("'{}'")
        .comment("Channels that it no longer takes, each with the position at that time"),
    column("retain", "text").comment("delete or keep, at the latest attach"),
    column("seen", "pg_snapshot").comment(
        "A row up to `seen_high`, outside `seen_missing`, that this snapshot does not show came in \
         late",
    ),
    column("seen_high", "int8"),
    column("seen_missing", "int8multirange").not_null().default("'{}'"),
    column("seen_node", "oid").comment("The file node of the table when `seen` was taken"),
    column("late", "int8multirange").not_null().default("'{}'").comment(
        "Ids that came in below `high`: never deleted, until `pgherald outbox late` decides",
    ),
    column("late_since", "timestamptz").comment("When the oldest of them was found"),
];

const DEAD_LETTER_COLUMNS: [Column; 18] = [
    column("pipeline", "text").not_null(),
    column("sink", "text").not_null(),
    column("id", "text").not_null().comment("The message's id"),
    column("channel", "text").not_null(),
    column("key", "text"),
    column("headers", "jsonb").not_null().default("'{}'"),
    column("content_type", "text"),
    column("payload", "bytea").comment("NULL: a tombstone"),
    column("message_time", "timestamptz").not_null(),
    column("reason", "text").not_null(),
    column("first_attempt_at", "timestamptz").not_null(),
    column("last_attempt_at", "timestamptz").not_null(),
    column("attempts", "int4").not_null(),
    column("created_at", "timestamptz").not_null().clock(),
    column("replay_at", "timestamptz").comment("When it was asked for again"),
    column("replayed_at", "timestamptz").comment("When the sink took it"),
    // NULL: 0.1.0 kept it.
    column("is_text", "bool").comment("The payload was a text; otherwise bytes"),
    column("content_type_is_set", "bool")
        .comment("The row or the configuration set `content_type`; otherwise it is a default"),
];

/// Every row is deleted soon: vacuum by the number of rows, not by a share of the table.
const OUTBOX_STORAGE: &str = "autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 10000,
    toast.autovacuum_vacuum_cost_delay = 0";

const CURSOR_STORAGE: &str = "fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0";

/// Everything, in the order in which it is made. The version comes last: until it is written, a
/// program that needs it waits.
pub(crate) fn steps() -> Vec<Step> {
    vec![
        Step { title: "schema pgherald", facts: vec![schema()] },
        Step { title: OUTBOX, facts: outbox() },
        Step { title: CURSOR, facts: cursor() },
        Step { title: DEAD_LETTER, facts: dead_letter() },
        Step { title: "pgherald.send", facts: functions(&functions::SENDING) },
        Step { title: "pgherald.messages", facts: vec![messages()] },
        Step { title: version::IDENTITY, facts: version::identity() },
        Step { title: version::VERSION, facts: version::version() },
    ]
}

fn schema() -> Fact {
    let proof = "to_regnamespace('pgherald') IS NOT NULL".to_owned();
    Fact::repaired("schema pgherald", "is missing", proof, "CREATE SCHEMA pgherald".to_owned())
}

fn functions(functions: &[Function]) -> Vec<Fact> {
    functions.iter().map(Function::fact).collect()
}

/// A table as it is made, and what has to be true of each of its columns.
pub(super) fn table(
    name: &'static str,
    columns: &[Column],
    storage: &str,
    comment: &str,
    small: bool,
) -> Vec<Fact> {
    let definitions: Vec<_> = columns.iter().map(Column::definition).collect();
    let comments: String = columns.iter().map(|column| column.comment_sql(name)).collect();
    let with =
        if storage.is_empty() { String::new() } else { format!(" WITH (\n    {storage}\n)") };
    let sql = format!(
        "CREATE TABLE {name} (\n    {}\n){with};\nCOMMENT ON TABLE {name} IS {};\n{comments}",
        definitions.join(",\n    "),
        crate::literal(comment)
    );
    let there = proof::table_is_there(name);
    let mut facts = vec![Fact::repaired(format!("table {name}"), "is missing", there, sql)];
    facts.extend(columns.iter().flat_map(|column| column.facts(name, small)));
    facts.extend([is_logged(name), shows_every_row(name)]);
    facts
}

pub(super) fn is_logged(name: &str) -> Fact {
    let proof = format!("NOT {}", proof::class(name, "relpersistence <> 'p'"));
    let sql = format!("ALTER TABLE {name} SET LOGGED");
    let wrong = "is UNLOGGED: a crash of the server empties it";
    Fact::named(format!("table {name}"), wrong, proof, sql).of(name)
}

fn shows_every_row(name: &str) -> Fact {
    let proof = format!("NOT {}", proof::class(name, "relrowsecurity"));
    let sql = format!("ALTER TABLE {name} DISABLE ROW LEVEL SECURITY");
    let wrong = "has row security: rows may be hidden from the bridge";
    Fact::named(format!("table {name}"), wrong, proof, sql).of(name)
}

fn primary_key(table: &str, columns: &[&str]) -> (String, String) {
    let sql = format!("ALTER TABLE {table} ADD PRIMARY KEY ({})", columns.join(", "));
    (proof::has_primary_key(table, columns), sql)
}

fn has_primary_key(table: &str, columns: &[&str]) -> Fact {
    let (proof, sql) = primary_key(table, columns);
    Fact::repaired(format!("primary key of {table}"), "is missing", proof, sql).of(table)
}

fn outbox() -> Vec<Fact> {
    let comment = "Messages to be carried; neither payload: a tombstone. A row goes when every \
         sink has it";
    let mut facts = vec![functions::HEADERS_ARE_LEGAL.fact(), functions::RING.fact()];
    facts.extend(table(OUTBOX, &OUTBOX_COLUMNS, OUTBOX_STORAGE, comment, false));
    facts.extend(ids());
    facts.extend(checks::facts());
    facts.push(doorbell());
    facts
}

/// The ids: handed out one by one, by the database alone.
fn ids() -> [Fact; 4] {
    let object = format!("column {OUTBOX}.id");
    // In a table that was just made. Elsewhere numbers were drawn already.
    let identity = proof::column(OUTBOX, "id", "attidentity <> ''");
    let make = format!(
        "ALTER TABLE {OUTBOX} ALTER COLUMN id SET NOT NULL, ALTER COLUMN id DROP DEFAULT, ALTER \
         COLUMN id ADD GENERATED ALWAYS AS IDENTITY (CACHE 1)"
    );
    let always = format!("NOT {}", proof::column(OUTBOX, "id", "attidentity = 'd'"));
    let set_always = format!("ALTER TABLE {OUTBOX} ALTER COLUMN id SET GENERATED ALWAYS");
    let one = "s.seqcache <> 1 OR s.seqincrement <> 1 OR s.seqcycle \
         OR s.seqmax <> 9223372036854775807";
    let one_by_one = format!("NOT {}", proof::sequence(OUTBOX, &format!("({one})")));
    let set_one = format!(
        "ALTER TABLE {OUTBOX} ALTER COLUMN id SET CACHE 1 SET INCREMENT BY 1 SET NO CYCLE SET NO \
         MAXVALUE"
    );
    let (key, add_key) = primary_key(OUTBOX, &["id"]);
    [
        Fact::named(
            &*object,
            "is no identity column: ids are not the database's own",
            identity,
            format!("{make}`, then `pgherald setup --repair"),
        )
        .of(OUTBOX),
        Fact::repaired(&*object, "is not GENERATED ALWAYS", always, set_always).of(OUTBOX).warns(),
        Fact::repaired(
            format!("sequence of {OUTBOX}.id"),
            "does not hand out ids one by one: rows appear behind the reader",
            one_by_one,
            set_one,
        )
        .of(OUTBOX),
        Fact::named(format!("primary key of {OUTBOX}"), "is missing", key, add_key).of(OUTBOX),
    ]
}

fn doorbell() -> Fact {
    const AFTER_INSERT_FOR_EACH_STATEMENT: i16 = 4;
    let proof = proof::has_trigger(
        OUTBOX,
        "pgherald_doorbell",
        "pgherald.ring()",
        AFTER_INSERT_FOR_EACH_STATEMENT,
    );
    let sql = format!(
        "CREATE OR REPLACE TRIGGER pgherald_doorbell AFTER INSERT ON {OUTBOX} FOR EACH STATEMENT \
         EXECUTE FUNCTION pgherald.ring();\n\
         ALTER TABLE {OUTBOX} ENABLE TRIGGER pgherald_doorbell"
    );
    let wrong = "is missing, disabled or changed: a row may wait a quarter of a second";
    Fact::repaired(format!("trigger pgherald_doorbell of {OUTBOX}"), wrong, proof, sql)
        .of(OUTBOX)
        .warns()
}

fn cursor() -> Vec<Fact> {
    let comment = "How far each sink has come; a row here holds back deletion";
    let mut facts = table(CURSOR, &CURSOR_COLUMNS, CURSOR_STORAGE, comment, true);
    facts.push(has_primary_key(CURSOR, &["pipeline", "sink"]));
    facts
}

fn dead_letter() -> Vec<Fact> {
    let comment = "Messages that a sink would never take; see `pgherald dead-letters`";
    let mut facts = table(DEAD_LETTER, &DEAD_LETTER_COLUMNS, "", comment, false);
    facts.push(has_primary_key(DEAD_LETTER, &["pipeline", "sink", "id"]));
    let index = format!(
        "CREATE INDEX dead_letter_replay ON {DEAD_LETTER} (pipeline, sink, replay_at) \
         WHERE replay_at IS NOT NULL AND replayed_at IS NULL"
    );
    let proof = "EXISTS (SELECT FROM pg_index WHERE indexrelid = \
         to_regclass('pgherald.dead_letter_replay')::oid AND indisvalid \
         AND indrelid = to_regclass('pgherald.dead_letter')::oid)";
    let object = "index pgherald.dead_letter_replay";
    let fact = Fact::repaired(object, "is missing", proof.to_owned(), index);
    facts.push(fact.of(DEAD_LETTER).warns());
    facts
}

/// The outbox for those who name every column: an id may be DEFAULT and nothing else, and the time
/// is the database's.
fn messages() -> Fact {
    let columns = "id, channel, key, headers, content_type, payload, payload_bytes";
    let sql = format!(
        "CREATE OR REPLACE VIEW pgherald.messages AS SELECT {columns} FROM {OUTBOX};\n\
         COMMENT ON VIEW pgherald.messages IS \
         'The outbox for an object-relational mapper: id as DEFAULT, and no created_at';\n"
    );
    let proof = format!(
        "'{columns}' = (SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute \
         WHERE attrelid = to_regclass('pgherald.messages')::oid AND attnum > 0 \
         AND NOT attisdropped) AND EXISTS (SELECT FROM pg_rewrite r JOIN pg_depend d \
         ON d.classid = 'pg_rewrite'::regclass AND d.objid = r.oid \
         WHERE r.ev_class = to_regclass('pgherald.messages')::oid \
         AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {})",
        proof::oid(OUTBOX)
    );
    let wrong = "is missing, or shows something else";
    Fact::repaired("view pgherald.messages", wrong, proof, sql).of(OUTBOX).warns()
}
