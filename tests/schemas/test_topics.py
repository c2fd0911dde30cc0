"""Promises of schemas/topics.py: the table of topics agrees with the records, and with itself."""

from schemas.events import EVENT_TYPES
from schemas.replies import REPLY
from schemas.requests import RECORD_TYPES
from schemas.topics import DAY_MS, EVENTS, MAX_RECORD_BYTES, REPLIES, REQUESTS, TOPICS


def test_topics_carry_the_records_that_have_a_model() -> None:
    """A type named in the table is one that code can read, and the other way round."""
    assert set(RECORD_TYPES) == set(REQUESTS.carries)
    assert set(EVENT_TYPES) == set(EVENTS.carries)
    assert (REPLY,) == REPLIES.carries


def test_names_are_unique() -> None:
    """No two rows of the table are about the same topic."""
    assert len(TOPICS) == len({topic.name for topic in TOPICS})


def test_no_record_is_too_large_for_its_topic() -> None:
    """Each topic takes the largest record that we write, with room for its headers."""
    assert all(int(topic.config["max.message.bytes"]) > MAX_RECORD_BYTES for topic in TOPICS)


def test_requests_outlive_their_deadlines() -> None:
    """A request is kept in Kafka for as long as it may still be answered: 7 days."""
    assert REQUESTS.retention_ms >= 7 * DAY_MS
