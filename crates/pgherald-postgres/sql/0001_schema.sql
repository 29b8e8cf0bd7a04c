-- Version 1: the outbox, its doorbell, cursors, dead letters, send().

CREATE SCHEMA IF NOT EXISTS pgherald;

CREATE TABLE pgherald.schema_version (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    version integer NOT NULL,
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE pgherald.schema_version IS 'What `pgherald setup` installed';

-- What every sink takes: an object of texts under legal names (RFC 9110 tokens), none of them
-- reserved, 16 KiB at most.
CREATE FUNCTION pgherald.headers_are_legal(headers jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
BEGIN ATOMIC
    SELECT CASE
        WHEN jsonb_typeof(headers) <> 'object' THEN false
        WHEN octet_length(headers::text) > 16384 THEN false
        ELSE NOT EXISTS (
            SELECT FROM jsonb_each(headers) AS header (name, value)
            WHERE jsonb_typeof(value) <> 'string'
            OR name COLLATE "C" !~ '^[-A-Za-z0-9!#$%&''*+.^_`|~]+$'
            OR lower(name COLLATE "C") ~ '^(ce_|ce-(?!type$)|nats-|webhook-)'
            OR lower(name COLLATE "C") IN
                ('host', 'content-length', 'transfer-encoding', 'connection', 'authorization')
        )
    END;
END;
COMMENT ON FUNCTION pgherald.headers_are_legal(jsonb) IS
    'An object of texts, at most 16 KiB, with legal names and no reserved ones';

CREATE TABLE pgherald.outbox (
    -- CACHE 1: the reader relies on ids that are handed out one by one.
    id bigint GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    channel text NOT NULL,
    key text,
    headers jsonb NOT NULL DEFAULT '{}',
    content_type text,
    payload text,
    payload_bytes bytea,
    CONSTRAINT channel_is_legal CHECK (channel <> '' AND octet_length(channel) <= 249),
    -- The first half spares the usual row the call.
    CONSTRAINT headers_are_legal CHECK (headers = '{}' OR pgherald.headers_are_legal(headers)),
    CONSTRAINT content_type_is_legal CHECK (content_type COLLATE "C" ~ '^[\x20-\x7e]{1,255}$'),
    CONSTRAINT one_payload_at_most CHECK (num_nonnulls(payload, payload_bytes) <= 1)
) WITH (
    -- Every row is deleted soon: vacuum by the number of rows, not by a share of the table.
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 100000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 100000,
    autovacuum_vacuum_cost_delay = 0,
    toast.autovacuum_vacuum_scale_factor = 0,
    toast.autovacuum_vacuum_threshold = 10000,
    toast.autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE pgherald.outbox IS
    'Messages to be carried; neither payload: a tombstone. A row goes when every sink has it';

-- A statement that inserts wakes a reader that sleeps. A reader that is awake does not hold the
-- lock and costs nothing; the one that sleeps holds it and is told through NOTIFY, at commit.
-- Two cases are left to the reader's poll, because a NOTIFY would make the sender's commit fail:
-- a server with two-phase commit (PREPARE refuses a transaction that notified), and a notification
-- queue that is almost full.
CREATE FUNCTION pgherald.ring() RETURNS trigger
    LANGUAGE plpgsql
AS $ring$
BEGIN
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885825124, TG_RELID::integer)
        AND pg_catalog.current_setting('max_prepared_transactions') = '0'
        AND pg_catalog.pg_notification_queue_usage() < 0.9
    THEN
        PERFORM pg_catalog.pg_notify('pgherald_doorbell', TG_RELID::text);
    END IF;
    RETURN NULL;
END
$ring$;
COMMENT ON FUNCTION pgherald.ring() IS 'Wakes a reader of the outbox that sleeps';

CREATE TRIGGER pgherald_doorbell AFTER INSERT ON pgherald.outbox
    FOR EACH STATEMENT EXECUTE FUNCTION pgherald.ring();

CREATE TABLE pgherald.cursor (
    pipeline text NOT NULL,
    sink text NOT NULL,
    high bigint NOT NULL,
    missing int8multirange NOT NULL DEFAULT '{}',
    settled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    outbox text NOT NULL DEFAULT 'pgherald.outbox',
    channels text[],
    PRIMARY KEY (pipeline, sink)
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0
);
COMMENT ON TABLE pgherald.cursor IS 'How far each sink has come; a row here holds back deletion';
COMMENT ON COLUMN pgherald.cursor.high IS 'Everything up to this id is settled, but for `missing`';
COMMENT ON COLUMN pgherald.cursor.missing IS 'Ids below `high` that were not yet visible';
COMMENT ON COLUMN pgherald.cursor.outbox IS 'The table that it reads';
COMMENT ON COLUMN pgherald.cursor.channels IS 'The channels that it takes; NULL: all';

CREATE TABLE pgherald.dead_letter (
    pipeline text NOT NULL,
    sink text NOT NULL,
    id text NOT NULL,
    channel text NOT NULL,
    key text,
    headers jsonb NOT NULL DEFAULT '{}',
    content_type text,
    payload bytea,
    message_time timestamptz NOT NULL,
    reason text NOT NULL,
    first_attempt_at timestamptz NOT NULL,
    last_attempt_at timestamptz NOT NULL,
    attempts integer NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    replay_at timestamptz,
    replayed_at timestamptz,
    PRIMARY KEY (pipeline, sink, id)
);
COMMENT ON TABLE pgherald.dead_letter IS
    'Messages that a sink would never take; see `pgherald dead-letters`';
COMMENT ON COLUMN pgherald.dead_letter.id IS 'The message''s id';
COMMENT ON COLUMN pgherald.dead_letter.payload IS 'NULL: a tombstone';
COMMENT ON COLUMN pgherald.dead_letter.replay_at IS 'When it was asked for again';
COMMENT ON COLUMN pgherald.dead_letter.replayed_at IS 'When the sink took it';
CREATE INDEX dead_letter_replay ON pgherald.dead_letter (pipeline, sink, replay_at)
    WHERE replay_at IS NOT NULL AND replayed_at IS NULL;

-- PL/pgSQL, because it keeps its plan from call to call in every version; SQL functions plan each
-- call before PostgreSQL 18. Named in full, because a caller's search_path may say anything.
CREATE FUNCTION pgherald.send(
    channel text, payload text, key text DEFAULT NULL, headers jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql AS $send$
DECLARE
    sent bigint;
BEGIN
    INSERT INTO pgherald.outbox (channel, key, headers, payload)
    VALUES (channel, key, coalesce(headers, '{}'), payload)
    RETURNING outbox.id INTO sent;
    RETURN sent;
END
$send$;
COMMENT ON FUNCTION pgherald.send(text, text, text, jsonb) IS
    'Sends a text with the surrounding transaction; NULL is a tombstone';

CREATE FUNCTION pgherald.send(
    channel text, payload jsonb, key text DEFAULT NULL, headers jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql AS $send$
DECLARE
    sent bigint;
BEGIN
    INSERT INTO pgherald.outbox (channel, key, headers, content_type, payload)
    VALUES (
        channel, key, coalesce(headers, '{}'),
        CASE WHEN payload IS NOT NULL THEN 'application/json' END, payload::text
    )
    RETURNING outbox.id INTO sent;
    RETURN sent;
END
$send$;
COMMENT ON FUNCTION pgherald.send(text, jsonb, text, jsonb) IS
    'Sends a document as application/json';

CREATE FUNCTION pgherald.send(
    channel text, payload json, key text DEFAULT NULL, headers jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql AS $send$
DECLARE
    sent bigint;
BEGIN
    INSERT INTO pgherald.outbox (channel, key, headers, content_type, payload)
    VALUES (
        channel, key, coalesce(headers, '{}'),
        CASE WHEN payload IS NOT NULL THEN 'application/json' END, payload::text
    )
    RETURNING outbox.id INTO sent;
    RETURN sent;
END
$send$;
COMMENT ON FUNCTION pgherald.send(text, json, text, jsonb) IS
    'Sends a document as application/json, as it is written';

CREATE FUNCTION pgherald.send(
    channel text, payload bytea, key text DEFAULT NULL, headers jsonb DEFAULT '{}'
) RETURNS bigint LANGUAGE plpgsql AS $send$
DECLARE
    sent bigint;
BEGIN
    INSERT INTO pgherald.outbox (channel, key, headers, payload_bytes)
    VALUES (channel, key, coalesce(headers, '{}'), payload)
    RETURNING outbox.id INTO sent;
    RETURN sent;
END
$send$;
COMMENT ON FUNCTION pgherald.send(text, bytea, text, jsonb) IS
    'Sends bytes';
