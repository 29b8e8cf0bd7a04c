    GRANT USAGE ON SCHEMA pgherald TO {role};
    -- Not the id and not the time, which are the database's word; RETURNING needs to see the id.
    GRANT INSERT (channel, key, headers, content_type, payload, payload_bytes), SELECT (id)
        ON pgherald.outbox TO {role};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgherald TO {role};
