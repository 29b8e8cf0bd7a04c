has_schema_privilege({role}, 'pgherald', 'USAGE')
        AND has_table_privilege({role}, 'pgherald.schema_version', 'SELECT')
        AND has_table_privilege({role}, 'pgherald.outbox', 'SELECT')
        AND has_table_privilege({role}, 'pgherald.outbox', 'DELETE')
        AND has_sequence_privilege({role}, 'pgherald.outbox_id_seq', 'USAGE')
        AND (SELECT bool_and(has_table_privilege({role}, name, privilege))
            FROM unnest(ARRAY['pgherald.cursor', 'pgherald.dead_letter',
                'pgherald.identity']) AS name,
                unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege)
        AND (SELECT bool_and(has_function_privilege({role}, oid, 'EXECUTE'))
            FROM pg_proc WHERE pronamespace = 'pgherald'::regnamespace)
