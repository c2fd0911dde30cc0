-- migrate:up

-- Of a cancel that came before its request: whether a gateway signed it, and for whose request (null: for anybody's).
-- An older release leaves both null; what it keeps counts as it did.
SET LOCAL lock_timeout = '5s';
ALTER TABLE early_cancels ADD COLUMN signed boolean, ADD COLUMN owner text;

-- migrate:down

SET LOCAL lock_timeout = '5s';
ALTER TABLE early_cancels DROP COLUMN signed, DROP COLUMN owner;
