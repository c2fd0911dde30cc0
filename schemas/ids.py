"""Ids that anyone can compute: of a record without an id, and of a conversation that was not named."""

from uuid import UUID, uuid5

_RECORDS = UUID("5b6c1f6e-6a0e-5d0c-9f39-0d9b6f0f6a01")
_CONVERSATIONS = UUID("5b6c1f6e-6a0e-5d0c-9f39-0d9b6f0f6a02")


def record_id(topic: str, partition: int, offset: int, timestamp_ms: int) -> UUID:
    """The request id of a record that carries none: UUIDv5 of its place and its timestamp (milliseconds)."""
    return uuid5(_RECORDS, f"{topic}/{partition}/{offset}/{timestamp_ms}")


def refusal_id(topic: str, partition: int, offset: int, timestamp_ms: int) -> UUID:
    """The ``ce_id`` of the reply to a record that was refused: the same each time it is sent."""
    return uuid5(record_id(topic, partition, offset, timestamp_ms), "refused")


def conversation_id_for_key(tenant: str, key: bytes) -> UUID:
    """The conversation that a record's key names: a UUID as it is, any other text as a UUIDv5 within the tenant."""
    text = key.decode("utf-8", "backslashreplace")
    try:
        return UUID(text)
    except ValueError:
        return uuid5(_CONVERSATIONS, f"{tenant}/{text}")


def conversation_id_for_request(request_id: UUID) -> UUID:
    """The conversation of a request that names none, neither in its body nor by a key."""
    return uuid5(_CONVERSATIONS, str(request_id))
