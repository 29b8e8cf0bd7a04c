
DECLARE
    sent bigint;
BEGIN
    INSERT INTO pgherald.outbox (channel, key, headers, payload)
    VALUES (channel, key, coalesce(headers, '{}'), payload)
    RETURNING outbox.id INTO sent;
    RETURN sent;
END
