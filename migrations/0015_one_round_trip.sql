-- migrate:up

SET LOCAL lock_timeout = '5s';

-- The moves of the queue as functions, so that each is one round trip (docs/decisions/0030). A worker calls the
-- version it was released with: a released function never changes. A change is a new function with the next number,
-- and the old one stays while workers of an older release may run.
--
-- Lock order, as everywhere: conversations by (tenant, id), then requests. A claim waits for no lock.
-- `tenant || '' = tenant` is always true. Without it the planner expects 100 rows from a JSON parameter, and would scan
-- a whole index that it believes to be small.

-- A claimed turn. `last_error`: why the previous attempt failed.
CREATE FUNCTION claimed_v1(r requests) RETURNS json STABLE LANGUAGE sql AS $$
SELECT json_build_object(
    'tenant', r.tenant, 'id', r.id, 'conversation_id', r.conversation_id, 'seq', r.seq, 'body', r.body,
    'body_hash', r.body_hash, 'worker_id', r.worker_id, 'model', r.model, 'user', r.user_name,
    'traceparent', r.traceparent, 'fence', r.fence, 'tries', r.tries, 'max_tries', r.max_tries,
    'caller_waits', r.caller_waits,
    'seconds_since', CAST(extract(epoch FROM now() - r.created_at) AS float8),
    'seconds_left', CAST(extract(epoch FROM r.deadline_at - now()) AS float8),
    'seconds_queued', CAST(extract(epoch FROM now() - r.run_at) AS float8),
    'cancelled', r.cancel_requested_at IS NOT NULL, 'last_error', r.error_code,
    'has_history', EXISTS (
        SELECT FROM messages m WHERE m.tenant = r.tenant AND m.conversation_id = r.conversation_id
    )
)
$$;

-- Claims turns for a worker: `by_age` of the oldest, `by_priority` of the others. `models`: only those of these models,
-- or only those of others. Returns an array of claimed turns; an empty one if the worker's lease is lost.
CREATE FUNCTION claim_v1(worker uuid, by_age bigint, by_priority bigint, models text[], only_these boolean)
RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    turns json;
BEGIN
    IF by_age + by_priority <= 0 THEN
        RETURN '[]';
    END IF;
    -- Locked until the commit, so that no other worker ends the lease in between. One that ends it now is not waited
    -- for: it may be waiting for a conversation that is locked here.
    PERFORM FROM workers w WHERE w.id = worker FOR KEY SHARE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN '[]';
    END IF;
    WITH oldest AS (
        SELECT r.tenant, r.id FROM requests r
        WHERE r.status = 'pending' AND r.run_at <= now() AND r.deadline_at > now()
            AND (r.model = ANY(models)) = only_these
        ORDER BY r.run_at
        LIMIT by_age
        FOR UPDATE SKIP LOCKED
    ), urgent AS (
        SELECT r.tenant, r.id FROM requests r
        WHERE r.status = 'pending' AND r.run_at <= now() AND r.deadline_at > now()
            AND (r.model = ANY(models)) = only_these
            AND (r.tenant, r.id) NOT IN (SELECT o.tenant, o.id FROM oldest o)
        ORDER BY r.priority DESC, r.run_at
        LIMIT by_priority
        FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE requests r SET status = 'in_progress', fence = r.fence + 1, tries = r.tries + 1, worker_id = worker,
            started_at = coalesce(r.started_at, now())
        FROM (SELECT * FROM oldest UNION ALL SELECT * FROM urgent) AS p
        WHERE r.tenant = p.tenant AND r.id = p.id
        RETURNING claimed_v1(r) AS turn
    )
    SELECT coalesce(json_agg(t.turn), '[]') INTO turns FROM taken t;
    RETURN turns;
END
$$;

-- Writes the replies of requests that have just ended in these (locked) conversations to the outbox. Returns an array of
-- every unpublished reply of these conversations, in publishing order: earlier ones too, because the worker that wrote
-- them may be about to publish them, or dead.
CREATE FUNCTION announce_v1(ended json, touched json) RETURNS json LANGUAGE plpgsql AS $$
DECLARE
    replies json;
BEGIN
    INSERT INTO outbox (tenant, request_id, conversation_id, value, headers)
    SELECT r.tenant, r.id, r.conversation_id,
        left(json_build_object(
            'request_id', r.id,
            'conversation_id', r.conversation_id,
            'status', r.status,
            'reply', CASE WHEN octet_length(m.content) <= 65536 THEN m.content END,
            'reply_url', CASE WHEN octet_length(m.content) > 65536 THEN '/v1/requests/' || r.id END,
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
            || '}',
        jsonb_build_object(
            'correlation_id', r.correlation_id, 'traceparent', r.traceparent, 'body_hash', r.body_hash
        )
    FROM json_to_recordset(ended) AS k(tenant text, id uuid)
    JOIN requests r ON r.tenant = k.tenant AND r.id = k.id
    LEFT JOIN messages m ON m.tenant = r.tenant AND m.request_id = r.id AND m.role = 'assistant'
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

-- Makes the first waiting turn runnable in each of these (locked) conversations that has no head. Returns how many.
CREATE FUNCTION promote_v1(touched json) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    promoted bigint;
BEGIN
    UPDATE requests r SET status = 'pending', run_at = greatest(r.not_before, now())
    FROM json_to_recordset(touched) AS k(tenant text, id uuid)
    CROSS JOIN LATERAL (
        SELECT w.id FROM requests w
        WHERE w.tenant = k.tenant AND w.conversation_id = k.id AND w.status = 'waiting'
        ORDER BY w.seq LIMIT 1
    ) AS next
    WHERE k.tenant || '' = k.tenant AND r.tenant = k.tenant AND r.id = next.id AND NOT EXISTS (
        SELECT FROM requests h
        WHERE h.tenant = k.tenant AND h.conversation_id = k.id AND h.status IN ('pending', 'in_progress')
    );
    GET DIAGNOSTICS promoted = ROW_COUNT;
    RETURN promoted;
END
$$;

-- Removes the texts of all ended requests in these deleted conversations. The emptied rows stay, so that a late
-- duplicate is still dropped. A running request is emptied when it ends.
CREATE FUNCTION empty_v1(deleted json) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH emptied AS (
        UPDATE requests r SET body = NULL, deleted_at = coalesce(r.deleted_at, now())
        FROM json_to_recordset(deleted) AS k(tenant text, id uuid)
        WHERE k.tenant || '' = k.tenant
            AND r.tenant = k.tenant AND r.conversation_id = k.id AND r.status <> 'in_progress'
        RETURNING r.tenant, r.id
    )
    UPDATE outbox o SET value = (CAST(o.value AS jsonb) - 'metadata' || '{"reply": null}')::text
    FROM emptied e WHERE o.tenant = e.tenant AND o.request_id = e.id;
END
$$;

-- Takes in new requests. For up to `slots` of them, the most urgent, that may run now, the worker gets them at once: it
-- must know that nothing else is runnable. `touched`: the conversations to lock, each with the owner it is created with
-- and the number of turns to add. `incoming`: the requests in the order of their records (`place`), each id once.
-- Returns an object. inserted: how many. known: [place, body_hash] of each request whose id was taken in before.
-- interrupting: conversation and seq of each open turn that interrupts those before it. announcements, claimed: as
-- above.
CREATE FUNCTION take_in_v1(touched json, incoming json, worker uuid, slots bigint)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    claimed json;
    asked bigint;
    added bigint;
    known json;
    interrupting json;
    ended json;
    ended_in json;
    replies json := '[]';
BEGIN
    IF slots > 0 THEN
        PERFORM FROM workers w WHERE w.id = worker FOR KEY SHARE SKIP LOCKED; -- As in `claim_v1`.
        IF NOT FOUND THEN
            slots := 0;
        END IF;
    END IF;
    -- In one statement and in a fixed order, so that two batches cannot deadlock.
    INSERT INTO conversations AS c (tenant, id, owner, next_seq)
    SELECT k.tenant, k.id, k.owner, 1 + k.turns
    FROM json_to_recordset(touched) AS k(tenant text, id uuid, owner text, turns bigint)
    ORDER BY k.tenant, k.id
    ON CONFLICT (tenant, id) DO UPDATE SET next_seq = c.next_seq + excluded.next_seq - 1;

    WITH facts AS MATERIALIZED (
        SELECT n.*, c.next_seq - count(*) OVER (PARTITION BY n.tenant, n.conversation_id) AS first_seq,
            coalesce(c.owner, c.user_id::text) AS owner, c.deleted_at IS NOT NULL AS deleted, r.body_hash AS known,
            -- An early cancel counts for a request without an owner and, if a gateway signed it, for the owner it was
            -- signed for. `signed` is null in rows of releases that did not have these columns.
            EXISTS (
                SELECT FROM early_cancels e WHERE e.tenant = n.tenant AND e.id = n.id AND (
                    n.user_name IS NULL OR e.signed IS NULL OR (e.signed AND (e.owner IS NULL OR e.owner = n.user_name))
                )
            ) AS cancelled,
            coalesce(n.deadline <= now(), false) AS expired,
            EXISTS (
                SELECT FROM requests h WHERE h.tenant = n.tenant AND h.conversation_id = n.conversation_id
                    AND h.status IN ('pending', 'in_progress')
            ) AS busy
        FROM json_to_recordset(incoming) AS n(
            place integer, tenant text, id uuid, conversation_id uuid, priority smallint, model text, task_type text,
            body jsonb, body_hash text, user_name text, signed boolean, on_busy text, correlation_id text,
            traceparent text, caller_waits boolean, max_tries integer, retry_of uuid, not_before timestamptz,
            deadline timestamptz, src_topic text, src_partition integer, src_offset bigint, src_timestamp bigint
        )
        JOIN conversations c ON c.tenant = n.tenant AND c.id = n.conversation_id
        LEFT JOIN requests r ON r.tenant = n.tenant AND r.id = n.id
        WHERE n.tenant || '' = n.tenant
    ), judged AS (
        SELECT f.*, CASE
            -- First: the answer must not reveal whether a conversation exists that belongs to another owner.
            WHEN f.user_name IS DISTINCT FROM f.owner AND f.user_name IS NOT NULL THEN 'not_found'
            WHEN NOT f.signed AND f.owner IS NOT NULL THEN 'unsigned'
            WHEN f.deleted THEN 'conversation_deleted'
        END AS refusal
        FROM facts f WHERE f.known IS NULL
    ), placed AS (
        SELECT j.*, j.first_seq + row_number() OVER turns - 1 AS seq,
            -- A turn is open before it: in Postgres, or in this batch.
            j.busy OR coalesce(bool_or(j.refusal IS NULL AND NOT j.cancelled AND NOT j.expired) OVER (
                turns ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ), false) AS behind
        FROM judged j WINDOW turns AS (PARTITION BY j.tenant, j.conversation_id ORDER BY j.place)
    ), decided AS (
        SELECT p.*, coalesce(p.refusal, CASE WHEN p.behind AND p.on_busy = 'reject' THEN 'conversation_busy' END) AS why,
            p.refusal IS NULL AND NOT p.cancelled AND NOT p.expired AND NOT p.behind
                AND coalesce(p.not_before <= now(), true) AS runnable
        FROM placed p
    ), shared AS (
        SELECT d.*, d.runnable AND row_number() OVER (
            PARTITION BY d.runnable ORDER BY d.priority DESC, d.place
        ) <= slots AS taken
        FROM decided d
    ), written AS (
        INSERT INTO requests AS r (
            tenant, id, conversation_id, seq, status, worker_id, fence, tries, started_at, priority, model, task_type, body, body_hash, user_name,
            correlation_id, traceparent, caller_waits, max_tries, retry_of, not_before, run_at, deadline_at,
            finished_at, cancel_requested_at, error_code, error_detail,
            src_topic, src_partition, src_offset, src_timestamp
        )
        SELECT d.tenant, d.id, d.conversation_id, d.seq,
            CASE WHEN d.why IS NOT NULL THEN 'failed'
                 WHEN d.cancelled THEN 'cancelled'
                 WHEN d.expired THEN 'expired'
                 WHEN d.behind THEN 'waiting'
                 WHEN d.taken THEN 'in_progress'
                 ELSE 'pending' END,
            CASE WHEN d.taken THEN worker END, CAST(d.taken AS integer), CAST(d.taken AS integer),
            CASE WHEN d.taken THEN now() END, d.priority, d.model, d.task_type, CASE WHEN NOT d.deleted THEN d.body END, d.body_hash, d.user_name,
            d.correlation_id, d.traceparent, d.caller_waits, d.max_tries, d.retry_of, d.not_before,
            greatest(d.not_before, now()),
            least(coalesce(d.deadline, greatest(d.not_before, now()) + interval '1 hour'), now() + interval '7 days'),
            CASE WHEN d.why IS NOT NULL OR d.cancelled OR d.expired THEN now() END,
            CASE WHEN d.why IS NULL AND d.cancelled THEN now() END,
            CASE d.why WHEN 'unsigned' THEN 'not_found' ELSE d.why END,
            CASE d.why
                WHEN 'not_found' THEN 'there is no such conversation'
                WHEN 'unsigned' THEN 'it refers to data of a user, and this record is not signed'
                WHEN 'conversation_deleted' THEN 'the conversation is deleted'
                WHEN 'conversation_busy' THEN 'the conversation has an open turn, and on_busy is reject'
            END,
            d.src_topic, d.src_partition, d.src_offset, d.src_timestamp
        FROM shared d
        ORDER BY d.tenant, d.conversation_id, d.seq
        ON CONFLICT DO NOTHING
        RETURNING r.tenant, r.id, r.conversation_id, r.seq, r.finished_at,
            CASE WHEN r.worker_id IS NOT NULL THEN claimed_v1(r) END AS turn
    )
    SELECT count(*) FILTER (WHERE f.known IS NULL), count(w.id),
        coalesce(json_agg(json_build_array(f.place, f.known)) FILTER (WHERE w.id IS NULL), '[]'),
        coalesce(json_agg(json_build_object('tenant', w.tenant, 'conversation_id', w.conversation_id, 'seq', w.seq))
            FILTER (WHERE f.on_busy = 'interrupt' AND w.id IS NOT NULL AND w.finished_at IS NULL), '[]'),
        json_agg(json_build_object('tenant', w.tenant, 'id', w.id)) FILTER (WHERE w.finished_at IS NOT NULL),
        json_agg(json_build_object('tenant', w.tenant, 'id', w.conversation_id))
            FILTER (WHERE w.finished_at IS NOT NULL),
        coalesce(json_agg(w.turn) FILTER (WHERE w.turn IS NOT NULL), '[]')
    INTO asked, added, known, interrupting, ended, ended_in, claimed
    FROM facts f LEFT JOIN written w ON w.tenant = f.tenant AND w.id = f.id;

    IF added < asked THEN
        -- Another worker has inserted some of these ids since, in other conversations: they are known by now. The turn
        -- meant to be the head may be one of them.
        SELECT json_agg(json_build_array(n.place, coalesce(r.body_hash, n.body_hash))) INTO known
        FROM json_array_elements(known) AS k
        JOIN json_to_recordset(incoming) AS n(place integer, tenant text, id uuid, body_hash text)
            ON n.place = CAST(k ->> 0 AS integer)
        LEFT JOIN requests r ON r.tenant = n.tenant AND r.id = n.id;
        PERFORM promote_v1(touched);
    END IF;
    IF ended IS NOT NULL THEN
        replies := announce_v1(ended, ended_in);
    END IF;
    RETURN json_build_object(
        'inserted', added, 'known', known, 'interrupting', interrupting, 'announcements', replies, 'claimed', claimed
    );
END
$$;

-- Writes the ends of attempts, promotes the next turns of their conversations, and claims turns for the worker as
-- `claim_v1` does; if `only_after_promotion`, then only if a turn was promoted. `touched`: the conversations. `endings`: as of `AttemptEnd`, with a number (`place`) each; one whose
-- fence no longer holds changes nothing.
-- Returns an object. written: the places of the endings that count. promoted: how many turns became runnable.
-- announcements, claimed: as above.
CREATE FUNCTION finish_v1(
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
            e.question_role, e.question, e.reply, e.finish_reason, e.log_type, e.log_message
        FROM json_to_recordset(endings) AS e(
            place integer, tenant text, id uuid, conversation_id uuid, fence integer, status text, delay float8,
            tries_back integer, usage jsonb, error_code text, error_detail text, question_role text, question text,
            reply text, finish_reason text, log_type text, log_message text
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
        INSERT INTO messages (tenant, conversation_id, request_id, role, content, finish_reason)
        SELECT w.tenant, w.conversation_id,
            -- A request has at most one assistant message, its answer: a question with that role gets no request id.
            CASE WHEN m.part = 2 OR m.role <> 'assistant' THEN w.id END, m.role, m.content, m.finish_reason
        FROM counted w CROSS JOIN LATERAL (
            VALUES (1, w.question_role, w.question, NULL), (2, 'assistant', w.reply, w.finish_reason)
        ) AS m(part, role, content, finish_reason)
        WHERE w.became = 'completed' AND m.content IS NOT NULL
        ORDER BY w.place, m.part
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
        PERFORM empty_v1(deleted); -- Before the replies are written: they must not carry texts of a deleted conversation.
    END IF;
    replies := announce_v1(over, touched);
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
DROP FUNCTION finish_v1(json, json, uuid, bigint, bigint, boolean), take_in_v1(json, json, uuid, bigint),
    empty_v1(json), promote_v1(json), announce_v1(json, json), claim_v1(uuid, bigint, bigint, text[], boolean),
    claimed_v1(requests);
