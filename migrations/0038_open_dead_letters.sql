-- migrate:up

SET LOCAL lock_timeout = '5s';

-- Replays go through the letters that were not replayed, oldest first, and gateways count them every second. Letters that
-- were replayed are kept, and may be most of the table. Dead letters wait to be kept while this is built.
CREATE INDEX dead_letters_open ON dead_letters (tenant, created_at, id) WHERE replayed_at IS NULL;

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP INDEX dead_letters_open;
