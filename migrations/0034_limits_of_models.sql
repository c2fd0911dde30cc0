-- migrate:up

SET LOCAL lock_timeout = '5s';

-- What the LLM service says of a model beyond the columns: its fallbacks, price and limits of its provider
-- (orchestra/store/models.py). Null: a worker of an older release has stored it, or there is nothing to say.
ALTER TABLE models ADD COLUMN more jsonb;

-- migrate:down

SET LOCAL lock_timeout = '5s';
ALTER TABLE models DROP COLUMN more;
