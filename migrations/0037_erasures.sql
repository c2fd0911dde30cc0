-- migrate:up

SET LOCAL lock_timeout = '5s';

-- Whose data were deleted, and what is left to do for it (docs/decisions/0049). `owner_hash`: a keyed hash of tenant and
-- owner; `owner` itself is forgotten at the end, and unknown (null) for an erasure that was read back from Kafka.
-- `number` grows with each commit: a worker that knows the highest one knows all. Records of the owner that Kafka got
-- up to `refuses_until` are not taken in; null: whenever they come.
CREATE TABLE erasures (
    number        bigserial UNIQUE,
    id            uuid PRIMARY KEY,
    tenant        text NOT NULL,
    owner_hash    text NOT NULL,
    owner         text,
    requested_at  timestamptz NOT NULL DEFAULT now(),
    refuses_until timestamptz,
    noted_at      timestamptz NOT NULL DEFAULT now(), -- In this database, which may be a restored one.
    due_at        timestamptz NOT NULL DEFAULT now(),
    recorded      boolean NOT NULL DEFAULT false,     -- Kafka has it.
    erased        jsonb NOT NULL DEFAULT '{}',
    finished_at   timestamptz
);
CREATE INDEX erasures_due ON erasures (due_at) WHERE finished_at IS NULL;

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP TABLE erasures;
