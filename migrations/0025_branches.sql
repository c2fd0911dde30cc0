-- migrate:up

SET LOCAL lock_timeout = '5s';

-- A branch is a conversation whose history begins with that of another one (docs/decisions/0037): with the messages of
-- `parent_id` and of what that is itself a branch of, up to the message `up_to`. The branch's own messages come later,
-- so their ids are larger. A branch starts with `next_seq` 2: its first turn has a history before it.
CREATE TABLE branches (
    tenant          text NOT NULL,
    conversation_id uuid NOT NULL,
    parent_id       uuid NOT NULL,
    up_to           bigint NOT NULL,
    PRIMARY KEY (tenant, conversation_id),
    FOREIGN KEY (tenant, conversation_id) REFERENCES conversations (tenant, id) ON DELETE CASCADE,
    FOREIGN KEY (tenant, parent_id) REFERENCES conversations (tenant, id),
    CHECK (conversation_id <> parent_id)
);

CREATE INDEX branches_of ON branches (tenant, parent_id);

-- migrate:down

SET LOCAL lock_timeout = '5s';
DROP TABLE branches;
