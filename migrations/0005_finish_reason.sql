-- migrate:up

-- Why an answer ended: "length" when it was cut off at its token limit. Null where it is not known.
SET LOCAL lock_timeout = '5s';
ALTER TABLE messages ADD COLUMN finish_reason text;

-- migrate:down

SET LOCAL lock_timeout = '5s';
ALTER TABLE messages DROP COLUMN finish_reason;
