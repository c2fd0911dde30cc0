-- migrate:up

SET LOCAL lock_timeout = '5s';

-- What is not claimed: the turns of one model of a tenant; with an empty name, all turns of the tenant. `model` is the
-- name of the table `models`, and counts for its aliases too. A pause ends at `until`; null: when it is resumed.
CREATE TABLE pauses (
    tenant    text NOT NULL,
    model     text NOT NULL,
    reason    text NOT NULL,
    paused_by text NOT NULL,
    paused_at timestamptz NOT NULL DEFAULT now(),
    until     timestamptz,
    PRIMARY KEY (tenant, model)
);

-- Since when the worker is to take nothing new; null: it may. It reads this when it renews its lease.
ALTER TABLE workers ADD COLUMN drain_requested_at timestamptz;

-- What persons and keys have changed. `actor`: the credential, as `user:ID` or `key:ID`. `target`: what was changed, as
-- a path below `/v1`. `before` and `after`: fields of a few characters, never a text or a secret. `event_id`: the same
-- when a record is taken in again.
CREATE TABLE audit (
    id         bigserial PRIMARY KEY,
    event_id   uuid NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    tenant     text NOT NULL,
    actor      text NOT NULL,
    action     text NOT NULL,
    target     text NOT NULL,
    before     jsonb,
    after      jsonb,
    trace_id   text
);
CREATE INDEX audit_newest ON audit (tenant, created_at DESC, id DESC);
CREATE INDEX audit_by_actor ON audit (tenant, actor, created_at DESC, id DESC);
CREATE INDEX audit_by_action ON audit (tenant, action, created_at DESC, id DESC);
CREATE INDEX audit_by_target ON audit (tenant, target, created_at DESC, id DESC);
CREATE INDEX audit_oldest ON audit (created_at);

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP TABLE audit, pauses;
ALTER TABLE workers DROP COLUMN drain_requested_at;
