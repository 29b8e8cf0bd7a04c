    GRANT USAGE ON SCHEMA pgherald TO {role};
    GRANT SELECT ON pgherald.schema_version TO {role};
    GRANT SELECT, DELETE ON pgherald.outbox TO {role};
    -- pg_sequence_last_value() answers NULL without it.
    GRANT SELECT, USAGE ON SEQUENCE pgherald.outbox_id_seq TO {role};
    GRANT SELECT, INSERT, UPDATE, DELETE
        ON pgherald.cursor, pgherald.dead_letter, pgherald.identity TO {role};
    GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgherald TO {role};
