-- migrate:up

-- Tables of the previous system, with its names and columns. `tenant` has a default, so its plain inserts still work.

CREATE TABLE users (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant        text NOT NULL DEFAULT 'default',
    username      text NOT NULL UNIQUE,
    password_hash text NOT NULL,
    role          text NOT NULL DEFAULT 'user' CHECK (role IN ('admin', 'user')),
    created_at    timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE conversations (
    tenant     text NOT NULL DEFAULT 'default',
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id    uuid REFERENCES users (id) ON DELETE SET NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    metadata   jsonb NOT NULL DEFAULT '{}',
    -- The seq of the next turn. A transaction that adds or ends a turn locks this row.
    next_seq   bigint NOT NULL DEFAULT 1,
    deleted_at timestamptz,
    PRIMARY KEY (tenant, id)
) WITH (fillfactor = 80);

CREATE INDEX conversations_newest ON conversations (tenant, created_at DESC, id) WHERE deleted_at IS NULL;

CREATE TABLE messages (
    id              bigserial PRIMARY KEY,
    tenant          text NOT NULL DEFAULT 'default',
    conversation_id uuid NOT NULL,
    request_id      uuid,
    role            text NOT NULL CHECK (role IN ('user', 'assistant', 'system')),
    content         text NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    FOREIGN KEY (tenant, conversation_id) REFERENCES conversations (tenant, id)
);

CREATE INDEX messages_in_order ON messages (tenant, conversation_id, id);

-- At most one answer per request.
CREATE UNIQUE INDEX messages_one_answer ON messages (tenant, request_id) WHERE role = 'assistant';

CREATE TABLE logs (
    id         bigserial PRIMARY KEY,
    tenant     text NOT NULL DEFAULT 'default',
    type       text NOT NULL,
    message    text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX logs_oldest ON logs (created_at);

-- Requests and their states.

CREATE TABLE workers (
    id          uuid PRIMARY KEY,
    lease_until timestamptz NOT NULL,
    started_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE requests (
    tenant              text NOT NULL DEFAULT 'default',
    id                  uuid NOT NULL,
    conversation_id     uuid NOT NULL,
    seq                 bigint NOT NULL,
    status              text NOT NULL CHECK (
        status IN ('waiting', 'pending', 'in_progress', 'completed', 'failed', 'cancelled', 'expired')
    ),
    priority            smallint NOT NULL DEFAULT 5 CHECK (priority BETWEEN 0 AND 9),
    model               text NOT NULL,
    task_type           text,
    -- The request as received; null once it was deleted.
    body                jsonb,
    body_hash           text NOT NULL,
    user_name           text,
    correlation_id      text,
    traceparent         text,
    -- A client holds a connection open for the answer: fewer tries, short back-off.
    caller_waits        boolean NOT NULL DEFAULT false,
    -- Grows with every claim and never falls: the fencing token, and the number of the attempt.
    fence               integer NOT NULL DEFAULT 0,
    -- Tries used: grows with every claim, and may be given back.
    tries               integer NOT NULL DEFAULT 0,
    max_tries           integer NOT NULL DEFAULT 5,
    -- How many workers were lost while they held it.
    losses              integer NOT NULL DEFAULT 0,
    worker_id           uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    run_at              timestamptz NOT NULL DEFAULT now(),
    deadline_at         timestamptz NOT NULL,
    started_at          timestamptz,
    finished_at         timestamptz,
    cancel_requested_at timestamptz,
    deleted_at          timestamptz,
    retry_of            uuid,
    usage               jsonb,
    error_code          text,
    error_detail        text,
    src_topic           text NOT NULL,
    src_partition       integer NOT NULL,
    src_offset          bigint NOT NULL,
    src_timestamp       bigint NOT NULL,
    PRIMARY KEY (tenant, id),
    UNIQUE (tenant, conversation_id, seq),
    UNIQUE (src_topic, src_partition, src_offset, src_timestamp),
    FOREIGN KEY (tenant, conversation_id) REFERENCES conversations (tenant, id),
    CHECK ((status = 'in_progress') = (worker_id IS NOT NULL)),
    CHECK ((status IN ('completed', 'failed', 'cancelled', 'expired')) = (finished_at IS NOT NULL))
) WITH (
    fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_insert_scale_factor = 0.05
);

-- One head per conversation: the turn that may run or is running. The turns behind it are waiting.
CREATE UNIQUE INDEX requests_one_head ON requests (tenant, conversation_id)
WHERE status IN ('pending', 'in_progress');

CREATE INDEX requests_runnable ON requests (priority DESC, run_at) WHERE status = 'pending';
CREATE INDEX requests_waiting ON requests (tenant, conversation_id, seq) WHERE status = 'waiting';
CREATE INDEX requests_running ON requests (worker_id) WHERE status = 'in_progress';
CREATE INDEX requests_due ON requests (deadline_at) WHERE status IN ('waiting', 'pending');
CREATE INDEX requests_ended ON requests (finished_at) WHERE finished_at IS NOT NULL;

CREATE FUNCTION requests_keep_to_legal_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (OLD.status = 'waiting' AND NEW.status IN ('pending', 'failed', 'cancelled', 'expired'))
        OR (OLD.status = 'pending' AND NEW.status IN ('in_progress', 'failed', 'cancelled', 'expired'))
        OR (OLD.status = 'in_progress'
            AND NEW.status IN ('pending', 'completed', 'failed', 'cancelled', 'expired'))
    THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION 'a request cannot move from % to %', OLD.status, NEW.status USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER requests_legal_moves BEFORE UPDATE OF status ON requests
FOR EACH ROW WHEN (OLD.status IS DISTINCT FROM NEW.status)
EXECUTE FUNCTION requests_keep_to_legal_moves();

CREATE FUNCTION requests_keep_the_fence() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a fence never falls' USING ERRCODE = 'check_violation';
END
$$;

CREATE TRIGGER requests_fence_grows BEFORE UPDATE OF fence ON requests
FOR EACH ROW WHEN (NEW.fence < OLD.fence)
EXECUTE FUNCTION requests_keep_the_fence();

-- Replies to publish, written in the same transaction as the ending.
CREATE TABLE outbox (
    id              bigserial PRIMARY KEY,
    tenant          text NOT NULL,
    request_id      uuid NOT NULL,
    conversation_id uuid NOT NULL,
    kind            text NOT NULL DEFAULT 'reply',
    event_id        uuid NOT NULL DEFAULT gen_random_uuid(),
    value           text NOT NULL,
    headers         jsonb NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    published_at    timestamptz,
    UNIQUE (tenant, request_id, kind)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX outbox_unpublished ON outbox (tenant, conversation_id, id) WHERE published_at IS NULL;
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;

-- Cancels that arrived before their request.
CREATE TABLE early_cancels (
    tenant     text NOT NULL,
    id         uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, id)
);

-- Record time up to which each partition has been read.
CREATE TABLE intake_progress (
    topic       text NOT NULL,
    partition   integer NOT NULL,
    next_offset bigint NOT NULL,
    read_up_to  timestamptz NOT NULL,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);

CREATE TABLE dead_letters (
    id               bigserial PRIMARY KEY,
    tenant           text NOT NULL,
    topic            text NOT NULL,
    partition        integer NOT NULL,
    record_offset    bigint NOT NULL,
    record_timestamp bigint NOT NULL,
    request_id       uuid,
    reason           text NOT NULL,
    detail           text NOT NULL,
    record_key       bytea,
    value            bytea,
    -- [[name, base64 | null], …]: header values are bytes, and names may repeat.
    headers          jsonb NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    UNIQUE (topic, partition, record_offset, record_timestamp)
);

CREATE INDEX dead_letters_by_request ON dead_letters (tenant, request_id) WHERE request_id IS NOT NULL;
CREATE INDEX dead_letters_oldest ON dead_letters (created_at);

-- The models of the LLM service, kept up to date by workers so that gateways need not call it.
CREATE TABLE models (
    name              text PRIMARY KEY,
    aliases           text[] NOT NULL DEFAULT '{}',
    provider          text NOT NULL,
    context_tokens    integer NOT NULL,
    max_output_tokens integer NOT NULL,
    seen_at           timestamptz NOT NULL DEFAULT now()
);

-- migrate:down

DROP TABLE models, dead_letters, intake_progress, early_cancels, outbox, requests, workers, logs, messages,
    conversations, users;
DROP FUNCTION requests_keep_to_legal_moves(), requests_keep_the_fence();
