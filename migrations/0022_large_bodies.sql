-- migrate:up

SET LOCAL lock_timeout = '5s';

-- Bodies that exceed a record (docs/decisions/0038). A file with a `request_id` is the body of that request: it is in no
-- list, and it goes with the request. `kept_by_messages`: messages of the conversation name parts of it, so it stays as
-- long as they do.
ALTER TABLE files
    ADD COLUMN request_id uuid,
    ADD COLUMN kept_by_messages boolean NOT NULL DEFAULT false;
CREATE INDEX files_of_requests ON files (tenant, request_id) WHERE request_id IS NOT NULL AND deleted_at IS NULL;

-- Whatever removes a request, its body goes with it. A retention that deletes the row leaves the messages.
CREATE FUNCTION forget_bodies_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE files f SET deleted_at = now() FROM gone g
    WHERE f.tenant = g.tenant AND f.request_id = g.id AND f.deleted_at IS NULL AND NOT (
        f.kept_by_messages AND g.deleted_at IS NULL
        AND EXISTS (SELECT FROM messages m WHERE m.tenant = g.tenant AND m.request_id = g.id AND m.role = 'assistant')
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER requests_forget_bodies AFTER DELETE ON requests REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_bodies_v1();

CREATE FUNCTION forget_body_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE files SET deleted_at = now() WHERE tenant = new.tenant AND request_id = new.id AND deleted_at IS NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER requests_forget_body AFTER UPDATE OF deleted_at ON requests
    FOR EACH ROW WHEN (old.deleted_at IS NULL AND new.deleted_at IS NOT NULL) EXECUTE FUNCTION forget_body_v1();

-- A conversation may outlive the rows of its requests. Its deletion removes its messages and with them what they name.
CREATE FUNCTION forget_answered_v1() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE files f SET deleted_at = now() FROM gone g
    WHERE f.tenant = g.tenant AND f.request_id = g.request_id AND f.deleted_at IS NULL AND g.role = 'assistant'
        AND NOT EXISTS (SELECT FROM requests r WHERE r.tenant = g.tenant AND r.id = g.request_id AND r.deleted_at IS NULL);
    RETURN NULL;
END
$$;
CREATE TRIGGER messages_forget_bodies AFTER DELETE ON messages REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION forget_answered_v1();

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP TRIGGER messages_forget_bodies ON messages;
DROP TRIGGER requests_forget_body ON requests;
DROP TRIGGER requests_forget_bodies ON requests;
DROP FUNCTION forget_answered_v1(), forget_body_v1(), forget_bodies_v1();
DELETE FROM files WHERE request_id IS NOT NULL; -- Nothing else tells them from uploads. Their blobs are swept.
ALTER TABLE files DROP COLUMN kept_by_messages, DROP COLUMN request_id;
