-- migrate:up

-- How long the value was that a record came with, where it is not kept. Null where it is, or where nobody knows.
SET LOCAL lock_timeout = '5s';
ALTER TABLE dead_letters ADD COLUMN value_bytes bigint;

-- migrate:down

SET LOCAL lock_timeout = '5s';
ALTER TABLE dead_letters DROP COLUMN value_bytes;
