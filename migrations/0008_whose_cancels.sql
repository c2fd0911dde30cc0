-- migrate:up

-- For a cancel that arrived before its request: whether a gateway signed it, and for whose request (null: anyone's).
-- An older release leaves both null, and its cancels count as before.
SET LOCAL lock_timeout = '5s';
ALTER TABLE early_cancels ADD COLUMN signed boolean, ADD COLUMN owner text;

-- migrate:down

SET LOCAL lock_timeout = '5s';
ALTER TABLE early_cancels DROP COLUMN signed, DROP COLUMN owner;
