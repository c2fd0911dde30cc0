-- migrate:up

-- What a dead letter's replay sends instead of the original, which is kept unchanged; when it was replayed, and under
-- which request id.
ALTER TABLE dead_letters
    ADD COLUMN edited_at timestamptz,
    ADD COLUMN edited_key bytea,
    ADD COLUMN edited_value bytea,
    ADD COLUMN edited_headers jsonb,
    ADD COLUMN replayed_at timestamptz,
    ADD COLUMN replayed_as uuid,
    ADD CHECK ((replayed_at IS NULL) = (replayed_as IS NULL)),
    ADD CHECK ((edited_at IS NULL) = (edited_headers IS NULL));

CREATE INDEX dead_letters_newest ON dead_letters (tenant, created_at DESC, id DESC);
CREATE INDEX dead_letters_by_reason ON dead_letters (tenant, reason, created_at DESC, id DESC);
CREATE INDEX dead_letters_replayed ON dead_letters (tenant, replayed_as) WHERE replayed_as IS NOT NULL;

-- Lists of requests, newest first. Open ones by state, and those of a conversation, already have their indexes.
CREATE INDEX requests_newest ON requests (tenant, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX requests_owned ON requests (tenant, user_name, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX requests_by_model ON requests (tenant, model, created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX requests_unanswered ON requests (tenant, status, created_at DESC, id DESC)
WHERE status IN ('failed', 'cancelled', 'expired') AND deleted_at IS NULL;

-- migrate:down

DROP INDEX requests_unanswered, requests_by_model, requests_owned, requests_newest;
DROP INDEX dead_letters_replayed, dead_letters_by_reason, dead_letters_newest;
ALTER TABLE dead_letters
    DROP COLUMN edited_at, DROP COLUMN edited_key, DROP COLUMN edited_value, DROP COLUMN edited_headers,
    DROP COLUMN replayed_at, DROP COLUMN replayed_as;
