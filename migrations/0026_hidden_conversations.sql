-- migrate:up

SET LOCAL lock_timeout = '5s';

-- A conversation of one request, which has its id: of version 8, as only gateways give out (docs/decisions/0037). It is
-- hidden: lists and their indexes leave it out, however many there are. What may exist already was made before the
-- migration, without blocking anything (docs/howto/upgrade.md).
DROP INDEX conversations_newest, conversations_owned;
CREATE INDEX IF NOT EXISTS conversations_newest_0026 ON conversations (tenant, created_at DESC, id)
WHERE deleted_at IS NULL AND substr(CAST(id AS text), 15, 1) <> '8';
CREATE INDEX IF NOT EXISTS conversations_owned_0026 ON conversations
    (tenant, coalesce(owner, user_id::text), created_at DESC, id)
WHERE deleted_at IS NULL AND substr(CAST(id AS text), 15, 1) <> '8';
ALTER INDEX conversations_newest_0026 RENAME TO conversations_newest;
ALTER INDEX conversations_owned_0026 RENAME TO conversations_owned;

-- Requests that are the only ones of such a conversation are deleted with it.
CREATE INDEX IF NOT EXISTS requests_hidden ON requests (finished_at) WHERE finished_at IS NOT NULL AND id = conversation_id;

-- False: what the request said and what it was answered are removed soon after it ended. Null: they are kept. As a column,
-- because an index on the body would read it whole whenever the row changes.
ALTER TABLE requests ADD COLUMN IF NOT EXISTS store boolean;
CREATE INDEX IF NOT EXISTS requests_not_kept ON requests (finished_at)
WHERE finished_at IS NOT NULL AND deleted_at IS NULL AND store = false;

CREATE FUNCTION requests_note_what_is_not_kept() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.store := false;
    RETURN NEW;
END
$$;

CREATE TRIGGER requests_not_kept BEFORE INSERT ON requests
FOR EACH ROW WHEN (NEW.body ->> 'store' = 'false')
EXECUTE FUNCTION requests_note_what_is_not_kept();

-- When one of the workers looks through all conversations, on the same terms as the counts.
ALTER TABLE totals_due DROP CONSTRAINT totals_due_what_check;
ALTER TABLE totals_due ADD CONSTRAINT totals_due_what_check
    CHECK (what IN ('turns', 'bytes', 'files', 'conversations')) NOT VALID;
ALTER TABLE totals_due VALIDATE CONSTRAINT totals_due_what_check;
INSERT INTO totals_due (what) VALUES ('conversations');

-- migrate:down

SET LOCAL lock_timeout = '5s';
DELETE FROM totals_due WHERE what = 'conversations';
ALTER TABLE totals_due DROP CONSTRAINT totals_due_what_check;
ALTER TABLE totals_due ADD CONSTRAINT totals_due_what_check CHECK (what IN ('turns', 'bytes', 'files'));
DROP TRIGGER requests_not_kept ON requests;
DROP FUNCTION requests_note_what_is_not_kept();
DROP INDEX requests_not_kept, requests_hidden, conversations_owned, conversations_newest;
ALTER TABLE requests DROP COLUMN store;
CREATE INDEX conversations_newest ON conversations (tenant, created_at DESC, id) WHERE deleted_at IS NULL;
CREATE INDEX conversations_owned ON conversations (tenant, coalesce(owner, user_id::text), created_at DESC, id)
WHERE deleted_at IS NULL;
