    GRANT USAGE ON SCHEMA pgherald TO {role};
    GRANT INSERT, SELECT ON pgherald.messages TO {role};
    GRANT INSERT (channel, key, headers, content_type, payload, payload_bytes), SELECT (id)
        ON pgherald.outbox TO {role};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgherald TO {role};
