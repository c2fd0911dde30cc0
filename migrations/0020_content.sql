-- migrate:up

SET LOCAL lock_timeout = '5s';

-- What a message has beside its plain text (docs/decisions/0033). `parts`: its content, if that is not one text.
-- `tool_call_id`: the call that it is the result of. `output`: the items of an answer, if it is more than one text.
-- `state`: the provider's own data, returned to it with this answer. `weight`: what it counts in a prompt, in bytes; null:
-- the bytes of its text.
ALTER TABLE messages
    ADD COLUMN parts jsonb,
    ADD COLUMN tool_call_id text,
    ADD COLUMN output jsonb,
    ADD COLUMN state jsonb,
    ADD COLUMN weight integer;

-- Not compressed: media do not shrink, and `pg_column_size` is then the size in memory, known without reading the value.
ALTER TABLE messages ALTER COLUMN parts SET STORAGE EXTERNAL;

ALTER TABLE messages DROP CONSTRAINT messages_role_check;
ALTER TABLE messages ADD CONSTRAINT messages_role_check
    CHECK (role IN ('user', 'assistant', 'system', 'developer', 'tool')) NOT VALID;
ALTER TABLE messages VALIDATE CONSTRAINT messages_role_check;

-- The next versions of functions of 0015. `take_in_v1` goes on calling `announce_v1`: the requests that it ends have no
-- answer, and the replies of others are as they were written.

-- As `announce_v1`, with the items of an answer. They and its text are left out together if both exceed 64 KiB.
CREATE FUNCTION announce_v2(ended json, touched json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    replies json;
BEGIN
    INSERT INTO outbox (tenant, request_id, conversation_id, value, headers)
    SELECT r.tenant, r.id, r.conversation_id,
        left(json_build_object(
            'request_id', r.id,
            'conversation_id', r.conversation_id,
            'status', r.status,
            'reply', CASE WHEN m.bytes <= 65536 THEN m.content END,
            'reply_url', CASE WHEN m.bytes > 65536 THEN '/v1/requests/' || r.id END,
            'error', CASE WHEN r.status = 'failed'
                THEN json_build_object('code', r.error_code, 'detail', r.error_detail) END,
            'usage', r.usage,
            'attempts', r.fence,
            'model', r.model,
            'source', json_build_object('topic', r.src_topic, 'partition', r.src_partition, 'offset', r.src_offset),
            'finished_at', r.finished_at
        )::text, -1)
            -- What came later is absent where there is none, as it is in older records.
            || coalesce(', "finish_reason" : ' || to_json(m.finish_reason)::text, '')
            || coalesce(', "metadata" : ' || nullif(r.body -> 'metadata', '{}')::text, '')
            || coalesce(', "output" : ' || CASE WHEN m.bytes <= 65536 THEN m.output::text END, '')
            || '}',
        jsonb_build_object(
            'correlation_id', r.correlation_id, 'traceparent', r.traceparent, 'body_hash', r.body_hash
        )
    FROM json_to_recordset(ended) AS k(tenant text, id uuid)
    JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
    LEFT JOIN LATERAL (
        SELECT a.content, a.finish_reason, a.output,
            octet_length(a.content) + coalesce(octet_length(a.output::text), 0) AS bytes
        FROM messages a WHERE a.tenant = r.tenant AND a.request_id = r.id AND a.role = 'assistant'
    ) AS m ON true
    WHERE k.tenant || '' = k.tenant
    ORDER BY r.tenant, r.conversation_id, r.seq
    ON CONFLICT (tenant, request_id, kind) DO NOTHING;

    SELECT coalesce(json_agg(json_build_object(
        'id', late.id, 'tenant', late.tenant, 'request_id', late.request_id, 'conversation_id', late.conversation_id,
        'event_id', late.event_id, 'value', late.value, 'headers', late.headers
    ) ORDER BY late.id), '[]') INTO replies
    FROM json_to_recordset(touched) AS k(tenant text, id uuid) CROSS JOIN LATERAL (
        SELECT o.* FROM outbox o
        WHERE o.tenant = k.tenant AND o.conversation_id = k.id AND o.published_at IS NULL
        OFFSET 0 -- One look into the index for each conversation, not one over all that is unpublished.
    ) AS late
    WHERE k.tenant || '' = k.tenant;
    RETURN replies;
END
$$;

-- As `empty_v1`; removes the items of answers, too.
CREATE FUNCTION empty_v2(deleted json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH emptied AS (
        UPDATE requests r SET body = NULL, deleted_at = coalesce(r.deleted_at, now())
        FROM json_to_recordset(deleted) AS k(tenant text, id uuid)
        WHERE k.tenant || '' = k.tenant
            AND r.tenant = k.tenant AND r.conversation_id = k.id AND r.status <> 'in_progress'
        RETURNING r.tenant, r.id
    )
    UPDATE outbox o SET value = (CAST(o.value AS jsonb) - 'metadata' - 'output' || '{"reply": null}')::text
    FROM emptied e WHERE o.tenant = e.tenant AND o.request_id = e.id;
END
$$;

-- As `finish_v1`. In `endings`: `said`, the input to store before the answer as an array of rows in order, and the
-- answer's `output`, `state` and `weight`.
CREATE FUNCTION finish_v2(
    touched json, endings json, worker uuid, by_age bigint, by_priority bigint, only_after_promotion boolean
)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    claimed json := '[]';
    deleted json;
    written json;
    over json;
    replies json;
    promoted bigint;
BEGIN
    SELECT json_agg(json_build_object('tenant', l.tenant, 'id', l.id)) FILTER (WHERE l.deleted_at IS NOT NULL)
    INTO deleted FROM (
        SELECT c.tenant, c.id, c.deleted_at
        FROM json_to_recordset(touched) AS k(tenant text, id uuid)
        JOIN conversations c ON c.tenant = k.tenant AND c.id = k.id
        WHERE k.tenant || '' = k.tenant
        ORDER BY c.tenant, c.id
        FOR UPDATE OF c
    ) AS l;

    WITH given AS MATERIALIZED (
        -- In a conversation that was deleted meanwhile the answer is discarded.
        SELECT e.place, e.tenant, e.id, e.conversation_id, e.fence, e.delay,
            CASE WHEN c.deleted_at IS NULL THEN e.tries_back ELSE 0 END AS tries_back,
            c.deleted_at IS NOT NULL AS discarded,
            CASE WHEN c.deleted_at IS NOT NULL THEN 'cancelled' ELSE e.status END AS status,
            CASE WHEN c.deleted_at IS NULL THEN e.usage END AS usage,
            CASE WHEN c.deleted_at IS NULL THEN e.error_code END AS error_code,
            CASE WHEN c.deleted_at IS NULL THEN e.error_detail END AS error_detail,
            e.said, e.reply, e.finish_reason, e.output, e.state, e.weight, e.log_type, e.log_message
        FROM json_to_recordset(endings) AS e(
            place integer, tenant text, id uuid, conversation_id uuid, fence integer, status text, delay float8,
            tries_back integer, usage jsonb, error_code text, error_detail text, said json, reply text,
            finish_reason text, output jsonb, state jsonb, weight integer, log_type text, log_message text
        )
        JOIN conversations c ON c.tenant = e.tenant AND c.id = e.conversation_id
        WHERE e.tenant || '' = e.tenant
    ), ended AS (
        UPDATE requests r SET
            worker_id = NULL,
            status = CASE WHEN r.deleted_at IS NOT NULL THEN 'cancelled'
                          WHEN g.status = 'pending' AND r.cancel_requested_at IS NOT NULL THEN 'cancelled'
                          ELSE g.status END,
            finished_at = CASE WHEN g.status = 'pending' AND r.cancel_requested_at IS NULL AND r.deleted_at IS NULL
                THEN NULL ELSE now() END,
            run_at = CASE WHEN g.status = 'pending' THEN now() + make_interval(secs => g.delay) ELSE r.run_at END,
            tries = r.tries - g.tries_back,
            usage = g.usage,
            -- Why it failed; or, while it is open and when it expired, why its last attempt did.
            error_code = CASE WHEN g.status IN ('completed', 'cancelled') OR r.deleted_at IS NOT NULL
                OR g.status = 'pending' AND r.cancel_requested_at IS NOT NULL
                THEN NULL ELSE coalesce(g.error_code, r.error_code) END,
            error_detail = CASE WHEN g.status IN ('completed', 'cancelled') OR r.deleted_at IS NOT NULL
                OR g.status = 'pending' AND r.cancel_requested_at IS NOT NULL
                THEN NULL ELSE coalesce(g.error_detail, r.error_detail) END
        FROM given g
        WHERE r.tenant = g.tenant AND r.id = g.id AND r.fence = g.fence
            AND r.status || '' = 'in_progress' -- Not to be read from the index of all that runs.
        RETURNING r.tenant, r.id, r.fence, r.status
    ), counted AS MATERIALIZED (
        -- By fence too: a batch may hold the endings of an old and of a new attempt.
        SELECT g.*, e.status AS became FROM given g JOIN ended e ON e.tenant = g.tenant AND e.id = g.id
            AND e.fence = g.fence
    ), said AS (
        INSERT INTO messages (
            tenant, conversation_id, request_id, role, content, finish_reason, parts, tool_call_id, output, state,
            weight
        )
        SELECT w.tenant, w.conversation_id,
            -- A request has at most one assistant message, its answer: an input with that role gets no request id.
            CASE WHEN m.place IS NULL OR m.role <> 'assistant' THEN w.id END, m.role, m.content, m.finish_reason,
            m.parts, m.tool_call_id, m.output, m.state, m.weight
        FROM counted w CROSS JOIN LATERAL (
            SELECT s.place, s.role, s.content, s.parts, s.tool_call_id, s.weight, NULL AS finish_reason,
                CAST(NULL AS jsonb) AS output, CAST(NULL AS jsonb) AS state
            FROM ROWS FROM (
                json_to_recordset(w.said) AS (role text, content text, parts jsonb, tool_call_id text, weight integer)
            ) WITH ORDINALITY AS s(role, content, parts, tool_call_id, weight, place)
            UNION ALL
            SELECT NULL, 'assistant', w.reply, NULL, NULL, w.weight, w.finish_reason, w.output, w.state
        ) AS m
        WHERE w.became = 'completed' AND m.content IS NOT NULL
        ORDER BY w.place, m.place NULLS LAST -- The answer comes last.
    ), noted AS (
        INSERT INTO attempt_errors (tenant, request_id, attempt, code, detail)
        SELECT w.tenant, w.id, w.fence, w.error_code, w.error_detail FROM counted w WHERE w.error_code IS NOT NULL
        ON CONFLICT DO NOTHING
    ), logged AS (
        INSERT INTO logs (tenant, type, message)
        SELECT w.tenant, w.log_type, w.log_message FROM counted w WHERE w.log_type IS NOT NULL AND NOT w.discarded
    )
    SELECT coalesce(json_agg(w.place), '[]'),
        coalesce(json_agg(json_build_object('tenant', w.tenant, 'id', w.id)) FILTER (WHERE w.became <> 'pending'), '[]')
    INTO written, over FROM counted w;

    IF deleted IS NOT NULL THEN
        PERFORM empty_v2(deleted); -- Before the replies are written: they must not carry texts of a deleted conversation.
    END IF;
    replies := announce_v2(over, touched);
    promoted := promote_v1(touched);
    IF promoted > 0 OR NOT only_after_promotion THEN
        claimed := claim_v1(worker, by_age, by_priority, '{}', false);
    END IF;
    RETURN json_build_object(
        'written', written, 'promoted', promoted, 'announcements', replies, 'claimed', claimed
    );
END
$$;

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP FUNCTION finish_v2(json, json, uuid, bigint, bigint, boolean), empty_v2(json), announce_v2(json, json);
-- Without the columns a result does not name its call, and an instruction to the model has its older role.
DELETE FROM messages WHERE role = 'tool';
UPDATE messages SET role = 'system' WHERE role = 'developer';
ALTER TABLE messages DROP CONSTRAINT messages_role_check;
ALTER TABLE messages ADD CONSTRAINT messages_role_check CHECK (role IN ('user', 'assistant', 'system'));
ALTER TABLE messages
    DROP COLUMN parts,
    DROP COLUMN tool_call_id,
    DROP COLUMN output,
    DROP COLUMN state,
    DROP COLUMN weight;
