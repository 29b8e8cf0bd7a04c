CREATE OR REPLACE FUNCTION pgherald.pg_notify(channel text, payload text) RETURNS void
    LANGUAGE plpgsql
AS $notify$
BEGIN
    -- What the real one refuses is refused in its words.
    IF coalesce(channel, '') = '' THEN
        RAISE EXCEPTION 'channel name cannot be empty' USING ERRCODE = 'invalid_parameter_value';
    ELSIF octet_length(channel) >= 64 THEN
        RAISE EXCEPTION 'channel name too long' USING ERRCODE = 'invalid_parameter_value';
    ELSIF octet_length(payload) >= 8000 THEN
        RAISE EXCEPTION 'payload string too long' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO pgherald.outbox (channel, payload) VALUES (channel, coalesce(payload, ''));
END
$notify$;
COMMENT ON FUNCTION pgherald.pg_notify(text, text) IS
    'Stands before the real pg_notify in a search_path: puts a row into the outbox instead';
