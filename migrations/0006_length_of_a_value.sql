-- migrate:up

-- Length of the original value of a record whose value is not kept. Null if it is kept, or if the length is unknown.
SET LOCAL lock_timeout = '5s';
ALTER TABLE dead_letters ADD COLUMN value_bytes bigint;

-- migrate:down

SET LOCAL lock_timeout = '5s';
ALTER TABLE dead_letters DROP COLUMN value_bytes;
