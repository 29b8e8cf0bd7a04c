has_schema_privilege({role}, 'pgherald', 'USAGE')
        AND has_table_privilege({role}, 'pgherald.messages', 'INSERT')
        AND has_table_privilege({role}, 'pgherald.messages', 'SELECT')
        AND has_column_privilege({role}, 'pgherald.outbox', 'id', 'SELECT')
        AND (SELECT bool_and(has_column_privilege({role}, 'pgherald.outbox', name, 'INSERT'))
            FROM unnest(ARRAY['channel', 'key', 'headers', 'content_type', 'payload',
                'payload_bytes']) AS name)
        AND (SELECT bool_and(has_function_privilege({role}, oid, 'EXECUTE'))
            FROM pg_proc WHERE pronamespace = 'pgherald'::regnamespace)
