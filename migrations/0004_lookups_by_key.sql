-- Finding the next turn of a conversation reads only that conversation.

-- migrate:up

-- It also matched every query for waiting turns. While few turns waited it was chosen for those, and read in full.
DROP INDEX requests_due;
CREATE INDEX requests_due ON requests (deadline_at) WHERE finished_at IS NULL AND worker_id IS NULL;

-- migrate:down

DROP INDEX requests_due;
CREATE INDEX requests_due ON requests (deadline_at) WHERE status IN ('waiting', 'pending');
