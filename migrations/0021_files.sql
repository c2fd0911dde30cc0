-- migrate:up

SET LOCAL lock_timeout = '5s';

-- Files (docs/decisions/0034). Their bytes are in the home of files, under the key `blob`. `owner`: empty is the tenant
-- itself. An id begins with the time at which it was made, so that ids are in the order of lists. A file that is deleted
-- or expired keeps its row until its blob is gone.
CREATE TABLE files (
    tenant text NOT NULL,
    id text NOT NULL,
    owner text NOT NULL,
    purpose text NOT NULL,
    filename text NOT NULL,
    media_type text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes >= 0),
    sha256 text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
    blob text NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, id)
);

-- Lists of an owner, and the sum of their bytes.
CREATE INDEX files_owned ON files (tenant, owner, id) INCLUDE (bytes, expires_at) WHERE deleted_at IS NULL;
CREATE INDEX files_owned_by_purpose ON files (tenant, owner, purpose, id) WHERE deleted_at IS NULL;
CREATE INDEX files_by_purpose ON files (tenant, purpose, id) WHERE deleted_at IS NULL;
CREATE INDEX files_deleted ON files (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE INDEX files_expired ON files (expires_at);

-- When one of the workers looks for blobs without a row, on the same terms as the counts.
ALTER TABLE totals_due DROP CONSTRAINT totals_due_what_check;
ALTER TABLE totals_due ADD CONSTRAINT totals_due_what_check CHECK (what IN ('turns', 'bytes', 'files')) NOT VALID;
ALTER TABLE totals_due VALIDATE CONSTRAINT totals_due_what_check;
INSERT INTO totals_due (what) VALUES ('files');

-- migrate:down

SET LOCAL lock_timeout = '5s';
DELETE FROM totals_due WHERE what = 'files';
ALTER TABLE totals_due DROP CONSTRAINT totals_due_what_check;
ALTER TABLE totals_due ADD CONSTRAINT totals_due_what_check CHECK (what IN ('turns', 'bytes'));
DROP TABLE files;
