-- migrate:up

SET LOCAL lock_timeout = '5s';

-- The API by which a request came; null: not by one of OpenAI's. As a column, because an index on the body would read it
-- whole whenever the row changes. Most requests have none, and are in neither index. What may exist already was made before
-- the migration, as for 0026.
ALTER TABLE requests ADD COLUMN IF NOT EXISTS door text;
CREATE INDEX IF NOT EXISTS requests_by_door ON requests (tenant, door, created_at DESC, id DESC)
WHERE door IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX IF NOT EXISTS requests_by_door_owned ON requests (tenant, user_name, door, created_at DESC, id DESC)
WHERE door IS NOT NULL AND deleted_at IS NULL;

CREATE FUNCTION requests_note_their_door() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.door := NEW.body ->> 'door';
    RETURN NEW;
END
$$;

CREATE TRIGGER requests_door BEFORE INSERT ON requests
FOR EACH ROW WHEN (NEW.body ->> 'door' IS NOT NULL)
EXECUTE FUNCTION requests_note_their_door();

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP TRIGGER requests_door ON requests;
DROP FUNCTION requests_note_their_door();
DROP INDEX requests_by_door, requests_by_door_owned;
ALTER TABLE requests DROP COLUMN door;
