-- migrate:up

SET LOCAL lock_timeout = '5s';

-- The turns of each owner, so that a claim can skip those of an owner whose share is full without reading them.
CREATE INDEX requests_runnable_by_owner ON requests
    (tenant, (coalesce(user_name, '') COLLATE "C"), priority DESC, run_at) WHERE status = 'pending';

-- Lists and counts by type.
CREATE INDEX requests_by_type ON requests (tenant, task_type, created_at DESC, id DESC)
WHERE task_type IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX requests_by_type_owned ON requests (tenant, user_name, task_type, created_at DESC, id DESC)
WHERE task_type IS NOT NULL AND deleted_at IS NULL;

-- Totals of each owner, and of each tenant (`whole`, with an empty owner), counted by one worker every few seconds. An
-- empty owner without `whole` is the tenant itself. `next_due`: when the first parked turn may run. `runnable_since`:
-- since when the oldest runnable turn could have run. `stored_bytes`: estimated from a sample.
CREATE TABLE owner_totals (
    tenant         text NOT NULL,
    whole          boolean NOT NULL,
    owner          text NOT NULL,
    open_turns     bigint NOT NULL DEFAULT 0,
    parked_turns   bigint NOT NULL DEFAULT 0,
    next_due       timestamptz,
    runnable_since timestamptz,
    stored_bytes   bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant, whole, owner),
    CHECK (NOT whole OR owner = '')
) WITH (fillfactor = 50);

-- When each of the two is next counted. The worker that counts locks the row.
CREATE TABLE totals_due (
    what   text PRIMARY KEY CHECK (what IN ('turns', 'bytes')),
    due_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO totals_due (what) VALUES ('turns'), ('bytes');

ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes_check;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes_check
    CHECK (scopes <@ ARRAY['read', 'write', 'admin', 'priority', 'operate'] AND cardinality(scopes) > 0) NOT VALID;
ALTER TABLE api_keys VALIDATE CONSTRAINT api_keys_scopes_check;

-- migrate:down

SET LOCAL lock_timeout = '5s';
-- A key that has only these scopes is revoked.
UPDATE api_keys SET scopes = ARRAY['read'], revoked_at = coalesce(revoked_at, now())
WHERE scopes <@ ARRAY['priority', 'operate'];
UPDATE api_keys SET scopes = array_remove(array_remove(scopes, 'priority'), 'operate')
WHERE scopes && ARRAY['priority', 'operate'];
ALTER TABLE api_keys DROP CONSTRAINT api_keys_scopes_check;
ALTER TABLE api_keys ADD CONSTRAINT api_keys_scopes_check
    CHECK (scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0);
DROP TABLE totals_due, owner_totals;
DROP INDEX requests_by_type_owned, requests_by_type, requests_runnable_by_owner;
