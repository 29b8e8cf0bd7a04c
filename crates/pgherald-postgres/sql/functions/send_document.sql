
DECLARE
    sent bigint;
BEGIN
    INSERT INTO pgherald.outbox (channel, key, headers, content_type, payload)
    VALUES (
        channel, key, coalesce(headers, '{}'),
        CASE WHEN payload IS NOT NULL THEN 'application/json' END, payload::pg_catalog.text
    )
    RETURNING outbox.id INTO sent;
    RETURN sent;
END
