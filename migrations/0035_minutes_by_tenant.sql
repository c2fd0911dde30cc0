-- migrate:up

SET LOCAL lock_timeout = '5s';

-- Statistics of one tenant are read without those of the others. The primary key begins with the minute, which is how
-- old rows are found. Only the count of endings waits while this is built, and it counts later what it has missed.
CREATE INDEX request_minutes_by_tenant ON request_minutes (tenant, minute);

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP INDEX request_minutes_by_tenant;
