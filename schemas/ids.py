"""Derived ids, which anyone can compute: of a record without an id, of a conversation without a name of its own."""

from datetime import datetime
from uuid import UUID, uuid5

_RECORDS = UUID("5b6c1f6e-6a0e-5d0c-9f39-0d9b6f0f6a01")
_CONVERSATIONS = UUID("5b6c1f6e-6a0e-5d0c-9f39-0d9b6f0f6a02")
_CHANGES = UUID("5b6c1f6e-6a0e-5d0c-9f39-0d9b6f0f6a03")


def record_id(topic: str, partition: int, offset: int, timestamp_ms: int) -> UUID:
    """The request id of a record without one: UUIDv5 of its position and its timestamp (milliseconds)."""
    return uuid5(_RECORDS, f"{topic}/{partition}/{offset}/{timestamp_ms}")


def refusal_id(topic: str, partition: int, offset: int, timestamp_ms: int) -> UUID:
    """The ``ce_id`` of the reply to a rejected record: the same each time it is sent."""
    return uuid5(record_id(topic, partition, offset, timestamp_ms), "refused")


def change_id(tenant: str, action: str, target: str) -> UUID:
    """The id of a change that can be made only once: the same for everyone who makes it."""
    return uuid5(_CHANGES, f"{tenant}/{action}/{target}")


def change_id_since(change: UUID, created_at: datetime) -> UUID:
    """The id of a change of what was created then: another one may have had its name before."""
    return uuid5(change, created_at.isoformat())


def conversation_id_for_key(tenant: str, key: bytes) -> UUID:
    """The conversation of a record's key: a UUID unchanged, any other text as a UUIDv5 within the tenant."""
    text = key.decode("utf-8", "backslashreplace")
    try:
        return UUID(text)
    except ValueError:
        return uuid5(_CONVERSATIONS, f"{tenant}/{text}")


def may_be_made_by_an_owner(conversation_id: UUID, request_id: UUID | None = None) -> bool:
    """True unless others can compute this id. An owner may create only the derived id of their own request."""
    return conversation_id.version != 5 or (
        request_id is not None and conversation_id == conversation_id_for_request(request_id)
    )


def is_of_one_request(conversation_id: UUID) -> bool:
    """True if only a request with the same id may create this conversation: the version is that of request ids."""
    return conversation_id.version == 8


def conversation_id_beside(conversation_id: UUID) -> UUID:
    """The conversation of a key whose own one a user has deleted. It is the tenant's; no owner can create it."""
    return uuid5(_CONVERSATIONS, f"beside {conversation_id}")


def conversation_id_for_request(request_id: UUID) -> UUID:
    """The conversation of a request that names none, neither in its body nor by its key."""
    return uuid5(_CONVERSATIONS, str(request_id))


def conversation_id_of(named: UUID | None, tenant: str, key: bytes | None, request_id: UUID) -> UUID:
    """The conversation of a record: the one named in its body, else by its key, else a new one."""
    if named:
        return named
    return conversation_id_for_key(tenant, key) if key else conversation_id_for_request(request_id)
