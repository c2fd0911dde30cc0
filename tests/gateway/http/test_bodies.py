import importlib
import pkgutil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from starlette.requests import Request

import schemas.api
from gateway.http.bodies import parse, read_body, read_id, read_idempotency_key, validate
from schemas.api.messages import PostMessage
from schemas.errors import ErrorCode, OrchestraError

MODULES = [importlib.import_module(f"schemas.api.{each.name}") for each in pkgutil.iter_modules(schemas.api.__path__)]
FOUND = {each for module in MODULES for each in vars(module).values() if isinstance(each, type)}
# What callers write has no unknown fields.
WRITTEN = sorted(
    (each for each in FOUND if issubclass(each, BaseModel) and each.model_config.get("extra") == "forbid"),
    key=lambda model: model.__name__,
)


def request(chunks: list[bytes], **headers: str) -> Request:
    left = list(chunks)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0) if left else b"", "more_body": bool(left)}

    raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, receive)


async def test_limit() -> None:
    """A body of exactly the limit is read and one more byte is too large, in one chunk or in many."""
    assert await read_body(request([b"x" * 10]), 10) == b"x" * 10
    assert await read_body(request([b"x"] * 10), 10) == b"x" * 10
    for chunks in ([b"x" * 11], [b"x"] * 11):
        with pytest.raises(OrchestraError) as caught:
            await read_body(request(chunks), 10)
        assert caught.value.code is ErrorCode.TOO_LARGE


@pytest.mark.parametrize("asks", [{}, {"expect": "100-continue"}], ids=["sends", "asks"])
async def test_what_says_that_it_is_too_large(asks: dict[str, str]) -> None:
    """A body whose declared length is too large is refused before any of it is read, with or without `Expect`."""
    sent = request([], content_length="11", **asks)
    sent._receive = None  # type: ignore[assignment]
    with pytest.raises(OrchestraError) as caught:
        await read_body(sent, 10)
    assert caught.value.code is ErrorCode.TOO_LARGE
    assert await read_body(request([b"x" * 10], content_length="10", **asks), 10) == b"x" * 10


@pytest.mark.parametrize(
    ("header", "key"),
    [("abc", "abc"), ('"abc"', "abc"), (r'"a\"b\\c"', r'a"b\c'), ("!~", "!~"), ("x" * 255, "x" * 255), ('a"b', 'a"b')],
)
def test_keys(header: str, key: str) -> None:
    """A key is the same bare or as a quoted string."""
    assert read_idempotency_key(request([], idempotency_key=header)) == key


@pytest.mark.parametrize("header", ["", '""', "a b", '"a b"', "x" * 256, '"', '"abc', '"a"b"', "\x7f", "ä", "a\tb"])
def test_bad_keys(header: str) -> None:
    """A key of other than 1 to 255 visible characters is refused."""
    with pytest.raises(OrchestraError) as caught:
        read_idempotency_key(request([], idempotency_key=header))
    assert caught.value.code is ErrorCode.INVALID_REQUEST


def test_two_keys() -> None:
    """Two Idempotency-Key headers are refused."""
    twice = request([])
    twice.scope["headers"] = [(b"idempotency-key", b"a"), (b"idempotency-key", b"b")]
    with pytest.raises(OrchestraError):
        read_idempotency_key(twice)


def test_no_key() -> None:
    """Without the header there is no key."""
    assert read_idempotency_key(request([])) is None


def test_ids() -> None:
    """An id that is not a UUID is not found."""
    with pytest.raises(OrchestraError) as caught:
        read_id("canary")
    assert caught.value.code is ErrorCode.NOT_FOUND


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_body(raw: bytes) -> None:
    """Any sequence of bytes is either a message or one of two errors."""
    try:
        parse(PostMessage, raw)
    except OrchestraError as error:
        assert error.code in (ErrorCode.NOT_JSON, ErrorCode.INVALID_REQUEST)


@pytest.mark.parametrize("model", WRITTEN, ids=lambda model: model.__name__)
def test_a_refusal_names_the_field(model: type[BaseModel]) -> None:
    """Whatever field of whatever body has a wrong value, the detail begins with its name."""
    for name, field in model.model_fields.items():
        with pytest.raises(OrchestraError) as caught:
            validate(model, {field.alias or name: {"\0": "\0"}})
        named = {line.partition(":")[0].partition(".")[0] for line in caught.value.detail.split("; ")}
        assert (field.alias or name) in named, caught.value.detail
