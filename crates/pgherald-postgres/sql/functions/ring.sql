
-- Two cases are left to the reader's poll, because a NOTIFY would make the sender's commit fail: a
-- server with two-phase commit (PREPARE refuses a transaction that notified), and a notification
-- queue that is almost full.
BEGIN
    IF NOT pg_catalog.pg_try_advisory_xact_lock_shared(1885825124, TG_RELID::integer)
        AND pg_catalog.current_setting('max_prepared_transactions') = '0'
        AND pg_catalog.pg_notification_queue_usage() < 0.9
    THEN
        PERFORM pg_catalog.pg_notify('pgherald_doorbell', TG_RELID::text);
    END IF;
    RETURN NULL;
END
