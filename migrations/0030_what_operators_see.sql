-- migrate:up

SET LOCAL lock_timeout = '5s';

-- What a worker says of itself with each renewal of its lease (orchestra/store/worker_state.py). Null: it is of an older
-- release, or has not renewed its lease yet.
ALTER TABLE workers ADD COLUMN state jsonb;

-- The requests that ended in each minute, added up by one worker every few seconds from `requests_ended`. `queue` is
-- the time from when a request could first run to its first attempt, `model` from there to its end. Each has the sum of
-- its seconds, and how many requests took up to each bound of orchestra/store/minutes.py, the last without a bound.
CREATE TABLE request_minutes (
    minute        timestamptz NOT NULL,
    tenant        text NOT NULL,
    model         text NOT NULL,
    outcome       text NOT NULL CHECK (outcome IN ('completed', 'failed', 'cancelled', 'expired')),
    requests      bigint NOT NULL,
    input_tokens  bigint NOT NULL,
    output_tokens bigint NOT NULL,
    cost          double precision NOT NULL,
    queue_seconds double precision NOT NULL,
    model_seconds double precision NOT NULL,
    queue_buckets bigint[] NOT NULL,
    model_buckets bigint[] NOT NULL,
    PRIMARY KEY (minute, tenant, model, outcome)
) WITH (fillfactor = 70);

-- One row, locked by the worker that counts. `due_at`: when to count next. `counted_at`: when endings were last
-- counted. Minutes before `settled_at` have been counted when no transaction could add to them any more.
CREATE TABLE minutes_counted (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    due_at     timestamptz NOT NULL DEFAULT now(),
    counted_at timestamptz NOT NULL DEFAULT now(),
    settled_at timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00'
);
INSERT INTO minutes_counted (only_row) VALUES (true);

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP TABLE minutes_counted, request_minutes;
ALTER TABLE workers DROP COLUMN state;
