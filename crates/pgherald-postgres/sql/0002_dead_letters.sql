
-- Version 2: what a dead letter was, so that its replay has the same envelope. NULL: 0.1.0 kept it.

ALTER TABLE pgherald.dead_letter
    ADD COLUMN is_text boolean,
    ADD COLUMN content_type_is_set boolean;
COMMENT ON COLUMN pgherald.dead_letter.is_text IS 'The payload was a text; otherwise bytes';
COMMENT ON COLUMN pgherald.dead_letter.content_type_is_set IS
    'The row or the configuration set `content_type`; otherwise it is a default';
