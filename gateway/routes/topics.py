"""Topics and their records, for operators."""

import base64
import codecs
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from aiokafka import TopicPartition
from fastapi import Query, Response

from gateway.http.responses import json_answer
from gateway.http.route import Call, Route
from gateway.topics import Browsed, Looked, Topics, lags, moment
from orchestra.kafka.packed_records import Unread
from orchestra.store import requests
from orchestra.store.database import Database
from schemas.api.keys import Scope
from schemas.api.topics import (
    HeaderOfRecord,
    PartitionState,
    RecordList,
    RecordQuery,
    TopicList,
    TopicRecord,
    TopicState,
    text_or_base64,
)
from schemas.envelope import ID, SUBJECT, TENANT
from schemas.errors import ErrorCode, OrchestraError
from schemas.topics import EVENTS, REPLIES

_MAX_VALUE_BYTES = 16 * 1024
_MAX_HEADERS = 100
_MAX_HEADER_BYTES = 4096
_MAX_PARTITION = 2**31 - 1

Format = Literal["json", "text", "base64", "none", "unread"]


class TopicRoutes:
    """The routes, with their collaborators."""

    def __init__(self, database: Database, topics: Topics) -> None:
        self._database = database
        self._topics = topics

    def routes(self) -> Sequence[Route]:
        """The rows of the route table."""
        all_of_them = {"model": TopicList, "description": "The topics"}
        page = {"model": RecordList, "description": "The records"}
        records = "/v1/topics/{topic}/partitions/{partition}/records"
        return [
            Route("GET", "/v1/topics", self.list_topics, Scope.OPERATE, {200: all_of_them}, lists=True),
            Route("GET", records, self.list_records, Scope.ADMIN, {200: page}, lists=True),
        ]

    async def list_topics(self, call: Call[None]) -> Response:  # noqa: ARG002  every operator sees them all
        """List the topics, with how far each partition has been written and read."""
        looked = await self._topics.look()
        times = await self._topics.last_times(looked)
        read = {place.topic for place in lags(looked)}
        names = sorted({place.topic for place in looked.ends}, key=lambda name: (name not in read, name))
        return json_answer(TopicList(data=[_topic(looked, times, name) for name in names]))

    async def list_records(
        self, call: Call[None], topic: str, partition: str, query: Annotated[RecordQuery, Query()]
    ) -> Response:
        """List the records of a partition, as they are in Kafka.

        The call joins no consumer group and commits nothing. It reads for a limited time and a limited number of bytes,
        so it may return fewer records than `limit` together with `next`.
        """
        if query.offset is not None and query.at is not None:
            raise OrchestraError(ErrorCode.INVALID_REQUEST, "at: not together with `offset`")
        place = TopicPartition(topic, _number(partition))
        browsed = await self._topics.browse(place, query.offset, query.at, query.limit)
        tenant = call.caller.tenant
        offsets = [record.offset for record in browsed.records]
        made = await requests.from_records(self._database, tenant, topic, place.partition, offsets)
        theirs = await self._topics.tenant_of(topic)
        data = [_record(topic, record, tenant, theirs, made) for record in browsed.records]
        return json_answer(_page(place, browsed, data))


def _number(text: str) -> int:
    """The number of a partition. Raises ``NOT_FOUND`` if it is not one."""
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) > _MAX_PARTITION:
        raise OrchestraError(ErrorCode.NOT_FOUND)
    return int(text)


def _topic(looked: Looked, times: Mapping[TopicPartition, Any], topic: str) -> TopicState:
    places = sorted(place for place in looked.ends if place.topic == topic)
    behind = {place: each for place, each in lags(looked).items() if place.topic == topic}
    return TopicState(
        topic=topic,
        lag=sum(behind.values()) if behind else None,
        partitions=[
            PartitionState(
                partition=place.partition,
                start=looked.ends[place].start,
                end=looked.ends[place].end,
                read=mark.next_offset if (mark := looked.marks.get(place)) else None,
                lag=behind.get(place),
                read_up_to=mark.read_up_to if mark else None,
                last_record_at=times.get(place),
            )
            for place in places
        ],
    )


def _page(place: TopicPartition, browsed: Browsed, data: list[TopicRecord]) -> RecordList:
    return RecordList(
        topic=place.topic,
        partition=place.partition,
        start=browsed.ends.start,
        end=browsed.ends.end,
        data=data,
        next=browsed.next,
    )


def _record(topic: str, record: Any, tenant: str, theirs: str | None, made: Mapping[int, UUID]) -> TopicRecord:
    """A record as its tenant may see it: the one that it names, otherwise the topic's."""
    carried = dict(record.headers)
    named = carried.get(TENANT)
    shown = named == tenant.encode() if named is not None else theirs == tenant
    at, size = moment(record.timestamp), _size(record.value)
    if not shown:
        return TopicRecord(
            offset=record.offset, at=at, shown=False, key=None, key_base64=None, format="none", value=None,
            value_bytes=size, cut=False, headers=None, request_id=None,
        )  # fmt: skip
    format, value, cut = _value(record.value)
    key, key_base64 = text_or_base64(record.key and record.key[:_MAX_HEADER_BYTES])
    cut = (
        cut
        or len(record.headers) > _MAX_HEADERS
        or any(len(each or b"") > _MAX_HEADER_BYTES for _, each in record.headers)
    )
    return TopicRecord(
        offset=record.offset, at=at, shown=True, key=key, key_base64=key_base64, format=format, value=value,
        value_bytes=size, cut=cut, headers=[_header(*each) for each in islice(record.headers, _MAX_HEADERS)],
        request_id=made.get(record.offset) or _named(topic, carried),
    )  # fmt: skip


def _size(value: bytes | None) -> int | None:
    return value.length if isinstance(value, Unread) else None if value is None else len(value)


def _value(value: bytes | None) -> tuple[Format, str | None, bool]:
    """What a value is, the part of it that is shown, and whether there is more."""
    if isinstance(value, Unread):
        return "unread", value.detail, True
    if value is None:
        return "none", None, False
    cut = len(value) > _MAX_VALUE_BYTES
    part = value[:_MAX_VALUE_BYTES]
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(part, not cut)
    except UnicodeDecodeError:
        return "base64", base64.b64encode(part).decode(), cut
    if cut:
        return "text", text, True
    try:
        orjson.loads(value)
    except ValueError:
        return "text", text, False
    return "json", text, False


def _header(name: str, value: bytes | None) -> HeaderOfRecord:
    text, encoded = text_or_base64(value and value[:_MAX_HEADER_BYTES])
    return HeaderOfRecord(name=name[:_MAX_HEADER_BYTES], value=text, value_base64=encoded)


def _named(topic: str, carried: Mapping[str, bytes | None]) -> UUID | None:
    """The request that a record names."""
    said = carried.get(SUBJECT if topic in (EVENTS.name, REPLIES.name) else ID)
    try:
        return UUID((said or b"").decode())
    except ValueError:
        return None
