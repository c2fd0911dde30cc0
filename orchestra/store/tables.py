"""The tables as the migrations create them: the columns and keys used to compose statements.

Defaults, checks, indexes and triggers are only in the migrations. `tests/orchestra/store/test_tables.py` compares the
two.
"""

from sqlalchemy import (
    ARRAY,
    TIMESTAMP,
    BigInteger,
    Boolean,
    Column,
    Double,
    FetchedValue,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

METADATA = MetaData()

_Moment = TIMESTAMP(timezone=True)

users = Table(
    "users",
    METADATA,
    Column("id", Uuid, FetchedValue(), primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("username", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("password_set_at", _Moment, nullable=False),
)

api_keys = Table(
    "api_keys",
    METADATA,
    Column("id", Text, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="CASCADE")),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("expires_at", _Moment),
    Column("last_used_at", _Moment),
    Column("revoked_at", _Moment),
)

conversations = Table(
    "conversations",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("user_id", Uuid, ForeignKey("users.id", ondelete="SET NULL")),
    Column("created_at", _Moment, nullable=False),
    Column("metadata", JSONB, nullable=False),
    Column("next_seq", BigInteger, nullable=False),
    Column("deleted_at", _Moment),
    Column("owner", Text),
)

messages = Table(
    "messages",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    Column("request_id", Uuid),
    Column("role", Text, nullable=False),
    Column("content", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("finish_reason", Text),
    Column("parts", JSONB),
    Column("tool_call_id", Text),
    Column("output", JSONB),
    Column("state", JSONB),
    Column("weight", Integer),
    ForeignKeyConstraint(["tenant", "conversation_id"], ["conversations.tenant", "conversations.id"]),
)

branches = Table(
    "branches",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("conversation_id", Uuid, primary_key=True),
    Column("parent_id", Uuid, nullable=False),
    Column("up_to", BigInteger, nullable=False),
    ForeignKeyConstraint(
        ["tenant", "conversation_id"], ["conversations.tenant", "conversations.id"], ondelete="CASCADE"
    ),
    ForeignKeyConstraint(["tenant", "parent_id"], ["conversations.tenant", "conversations.id"]),
)

requests = Table(
    "requests",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("conversation_id", Uuid, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("model", Text, nullable=False),
    Column("task_type", Text),
    Column("body", JSONB),
    Column("body_hash", Text, nullable=False),
    Column("user_name", Text),
    Column("correlation_id", Text),
    Column("traceparent", Text),
    Column("caller_waits", Boolean, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("max_tries", Integer, nullable=False),
    Column("losses", Integer, nullable=False),
    Column("worker_id", Uuid),
    Column("created_at", _Moment, nullable=False),
    Column("run_at", _Moment, nullable=False),
    Column("not_before", _Moment),
    Column("deadline_at", _Moment, nullable=False),
    Column("started_at", _Moment),
    Column("finished_at", _Moment),
    Column("cancel_requested_at", _Moment),
    Column("deleted_at", _Moment),
    Column("retry_of", Uuid),
    Column("usage", JSONB),
    Column("error_code", Text),
    Column("error_detail", Text),
    Column("src_topic", Text, nullable=False),
    Column("src_partition", Integer, nullable=False),
    Column("src_offset", BigInteger, nullable=False),
    Column("src_timestamp", BigInteger, nullable=False),
    Column("store", Boolean),
    Column("door", Text),
    ForeignKeyConstraint(["tenant", "conversation_id"], ["conversations.tenant", "conversations.id"]),
)

attempt_errors = Table(
    "attempt_errors",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("request_id", Uuid, primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("code", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
    ForeignKeyConstraint(["tenant", "request_id"], ["requests.tenant", "requests.id"], ondelete="CASCADE"),
)

outbox = Table(
    "outbox",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("request_id", Uuid, nullable=False),
    Column("conversation_id", Uuid, nullable=False),
    Column("kind", Text, nullable=False),
    Column("event_id", Uuid, nullable=False),
    Column("value", Text, nullable=False),
    Column("headers", JSONB, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("published_at", _Moment),
)

early_cancels = Table(
    "early_cancels",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("created_at", _Moment, nullable=False),
    Column("signed", Boolean),
    Column("owner", Text),
)

dead_letters = Table(
    "dead_letters",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("topic", Text, nullable=False),
    Column("partition", Integer, nullable=False),
    Column("record_offset", BigInteger, nullable=False),
    Column("record_timestamp", BigInteger, nullable=False),
    Column("request_id", Uuid),
    Column("reason", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("record_key", LargeBinary),
    Column("value", LargeBinary),
    Column("value_bytes", BigInteger),
    Column("headers", JSONB, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("edited_at", _Moment),
    Column("edited_key", LargeBinary),
    Column("edited_value", LargeBinary),
    Column("edited_headers", JSONB),
    Column("replayed_at", _Moment),
    Column("replayed_as", Uuid),
)

intake_progress = Table(
    "intake_progress",
    METADATA,
    Column("topic", Text, primary_key=True),
    Column("partition", Integer, primary_key=True),
    Column("next_offset", BigInteger, nullable=False),
    Column("read_up_to", _Moment, nullable=False),
)

workers = Table(
    "workers",
    METADATA,
    Column("id", Uuid, primary_key=True),
    Column("lease_until", _Moment, nullable=False),
    Column("started_at", _Moment, nullable=False),
    Column("state", JSONB),
    Column("drain_requested_at", _Moment),
)

pauses = Table(
    "pauses",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("reason", Text, nullable=False),
    Column("paused_by", Text, nullable=False),
    Column("paused_at", _Moment, nullable=False),
    Column("until", _Moment),
)

audit = Table(
    "audit",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("event_id", Uuid, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("tenant", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("before", JSONB),
    Column("after", JSONB),
    Column("trace_id", Text),
)

request_minutes = Table(
    "request_minutes",
    METADATA,
    Column("minute", _Moment, primary_key=True),
    Column("tenant", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("outcome", Text, primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost", Double, nullable=False),
    Column("queue_seconds", Double, nullable=False),
    Column("model_seconds", Double, nullable=False),
    Column("queue_buckets", ARRAY(BigInteger), nullable=False),
    Column("model_buckets", ARRAY(BigInteger), nullable=False),
)

minutes_counted = Table(
    "minutes_counted",
    METADATA,
    Column("only_row", Boolean, primary_key=True),
    Column("due_at", _Moment, nullable=False),
    Column("counted_at", _Moment, nullable=False),
    Column("settled_at", _Moment, nullable=False),
)

owner_totals = Table(
    "owner_totals",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("whole", Boolean, primary_key=True),
    Column("owner", Text, primary_key=True),
    Column("open_turns", BigInteger, nullable=False),
    Column("parked_turns", BigInteger, nullable=False),
    Column("next_due", _Moment),
    Column("runnable_since", _Moment),
    Column("stored_bytes", BigInteger, nullable=False),
)

totals_due = Table(
    "totals_due",
    METADATA,
    Column("what", Text, primary_key=True),
    Column("due_at", _Moment, nullable=False),
)

files = Table(
    "files",
    METADATA,
    Column("tenant", Text, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("blob", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
    Column("expires_at", _Moment, nullable=False),
    Column("deleted_at", _Moment),
    Column("request_id", Uuid),
    Column("kept_by_messages", Boolean, nullable=False),
)

erasures = Table(
    "erasures",
    METADATA,
    Column("number", BigInteger, nullable=False),
    Column("id", Uuid, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("owner_hash", Text, nullable=False),
    Column("owner", Text),
    Column("requested_at", _Moment, nullable=False),
    Column("refuses_until", _Moment),
    Column("noted_at", _Moment, nullable=False),
    Column("due_at", _Moment, nullable=False),
    Column("recorded", Boolean, nullable=False),
    Column("erased", JSONB, nullable=False),
    Column("finished_at", _Moment),
)

models = Table(
    "models",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("aliases", ARRAY(Text), nullable=False),
    Column("provider", Text, nullable=False),
    Column("context_tokens", Integer, nullable=False),
    Column("max_output_tokens", Integer, nullable=False),
    Column("seen_at", _Moment, nullable=False),
    Column("more", JSONB),
)

logs = Table(
    "logs",
    METADATA,
    Column("id", BigInteger, primary_key=True),
    Column("tenant", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("created_at", _Moment, nullable=False),
)
