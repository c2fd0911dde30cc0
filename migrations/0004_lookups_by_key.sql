-- Finding the next turn of a conversation reads only that conversation.

-- migrate:up

-- It also fitted every question for turns that wait, and was taken for that while few did, to be read whole each time.
DROP INDEX requests_due;
CREATE INDEX requests_due ON requests (deadline_at) WHERE finished_at IS NULL AND worker_id IS NULL;

-- migrate:down

DROP INDEX requests_due;
CREATE INDEX requests_due ON requests (deadline_at) WHERE status IN ('waiting', 'pending');
