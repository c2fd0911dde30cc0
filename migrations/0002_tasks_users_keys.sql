-- migrate:up

-- The owner of a conversation: a user's id, or a name given by a caller with the right to it. Null: the tenant itself.
-- Rows of the previous system have only a user_id, which means the same.
ALTER TABLE conversations ADD COLUMN owner text;
CREATE INDEX conversations_owned ON conversations (tenant, coalesce(owner, user_id::text), created_at DESC, id)
WHERE deleted_at IS NULL;

ALTER TABLE requests ADD COLUMN not_before timestamptz;

-- Besides the most urgent turns a worker claims some by age alone, so that no priority starves.
CREATE INDEX requests_oldest ON requests (run_at) WHERE status = 'pending';

CREATE INDEX requests_tasks ON requests (tenant, created_at DESC, id DESC)
WHERE task_type IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX requests_tasks_owned ON requests (tenant, user_name, created_at DESC, id DESC)
WHERE task_type IS NOT NULL AND deleted_at IS NULL;

-- A request deleted while it ran or waited keeps nothing of its content, however it ends.
CREATE FUNCTION requests_forget_what_is_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.body := NULL;
    RETURN NEW;
END
$$;

CREATE TRIGGER requests_deleted_are_empty BEFORE UPDATE OF status ON requests
FOR EACH ROW WHEN (NEW.deleted_at IS NOT NULL AND NEW.finished_at IS NOT NULL)
EXECUTE FUNCTION requests_forget_what_is_deleted();

-- Why attempts failed, one row each. An attempt without a row was answered, given back or stopped.
CREATE TABLE attempt_errors (
    tenant     text NOT NULL,
    request_id uuid NOT NULL,
    attempt    integer NOT NULL,
    code       text NOT NULL,
    detail     text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, request_id, attempt),
    FOREIGN KEY (tenant, request_id) REFERENCES requests (tenant, id) ON DELETE CASCADE
);

-- Tokens issued before this moment are no longer valid.
ALTER TABLE users ADD COLUMN password_set_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX users_newest ON users (tenant, created_at DESC, id DESC);

CREATE TABLE api_keys (
    id           text PRIMARY KEY,
    tenant       text NOT NULL DEFAULT 'default',
    name         text NOT NULL,
    -- The key's user. Null: a program's key, which sees what any key of the same name has created.
    user_id      uuid REFERENCES users (id) ON DELETE CASCADE,
    scopes       text[] NOT NULL CHECK (scopes <@ ARRAY['read', 'write', 'admin'] AND cardinality(scopes) > 0),
    -- SHA-256 of the secret. The secret has 256 random bits, so it needs no slower hash.
    secret_hash  bytea NOT NULL CHECK (octet_length(secret_hash) = 32),
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz
);

CREATE INDEX api_keys_newest ON api_keys (tenant, created_at DESC, id DESC);

-- migrate:down

DROP TABLE api_keys, attempt_errors;
DROP TRIGGER requests_deleted_are_empty ON requests;
DROP FUNCTION requests_forget_what_is_deleted();
DROP INDEX users_newest, requests_tasks, requests_tasks_owned, requests_oldest, conversations_owned;
ALTER TABLE users DROP COLUMN password_set_at;
ALTER TABLE requests DROP COLUMN not_before;
ALTER TABLE conversations DROP COLUMN owner;
