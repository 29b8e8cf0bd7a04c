-- Version 2: what a cursor rests on. A position belongs to one incarnation of the outbox, of its
-- sequence and of the cursor's own row.

ALTER TABLE pgherald.cursor
    ADD COLUMN token uuid,
    ADD COLUMN outbox_oid oid,
    ADD COLUMN outbox_node oid,
    ADD COLUMN sequence_node oid,
    ADD COLUMN left_channels jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN retain text,
    ADD COLUMN seen pg_snapshot,
    ADD COLUMN seen_high bigint,
    ADD COLUMN seen_missing int8multirange NOT NULL DEFAULT '{}',
    ADD COLUMN seen_node oid,
    ADD COLUMN late int8multirange NOT NULL DEFAULT '{}',
    ADD COLUMN late_since timestamptz;
COMMENT ON COLUMN pgherald.cursor.token IS
    'Changes with every write of the position; a bridge that finds another one reads the row again';
COMMENT ON COLUMN pgherald.cursor.outbox_oid IS 'The table that the position belongs to';
COMMENT ON COLUMN pgherald.cursor.outbox_node IS
    'Its file node at the latest attach: another one after TRUNCATE or a rewrite';
COMMENT ON COLUMN pgherald.cursor.sequence_node IS
    'The file node of its sequence: another one after TRUNCATE RESTART IDENTITY';
COMMENT ON COLUMN pgherald.cursor.left_channels IS
    'Channels that it no longer takes, each with the position at that time';
COMMENT ON COLUMN pgherald.cursor.retain IS 'delete or keep, at the latest attach';
COMMENT ON COLUMN pgherald.cursor.seen IS
    'A row up to `seen_high`, outside `seen_missing`, that this snapshot does not show came in late';
COMMENT ON COLUMN pgherald.cursor.seen_node IS 'The file node of the table when `seen` was taken';
COMMENT ON COLUMN pgherald.cursor.late IS
    'Ids that came in below `high`: never deleted, until `pgherald outbox late` decides';
COMMENT ON COLUMN pgherald.cursor.late_since IS 'When the oldest of them was found';
