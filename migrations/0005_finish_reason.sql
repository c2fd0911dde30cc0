-- migrate:up

-- Why an answer ended: "length" if it was cut off at its token limit. Null if unknown.
SET LOCAL lock_timeout = '5s';
ALTER TABLE messages ADD COLUMN finish_reason text;

-- migrate:down

SET LOCAL lock_timeout = '5s';
ALTER TABLE messages DROP COLUMN finish_reason;
