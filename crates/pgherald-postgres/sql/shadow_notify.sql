CREATE OR REPLACE FUNCTION pgherald.pg_notify(channel text, payload text) RETURNS void
    LANGUAGE plpgsql
AS $notify$
BEGIN
    -- The real one first: it says what it refuses.
    PERFORM pg_catalog.pg_notify(channel, payload);
    INSERT INTO pgherald.outbox (channel, payload) VALUES (channel, coalesce(payload, ''));
END
$notify$;
COMMENT ON FUNCTION pgherald.pg_notify(text, text) IS
    'Stands before the real pg_notify in a search_path: notifies, and puts a row into the outbox';
