-- migrate:up

SET LOCAL lock_timeout = '5s';

-- Every worker looks every few seconds for those of the last minutes; they are kept for a week.
CREATE INDEX early_cancels_newest ON early_cancels (created_at);

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP INDEX early_cancels_newest;
