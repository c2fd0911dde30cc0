from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers.refusals import refused, retry_after, stated
from schemas.errors import ErrorCode

CANARY = "canary-7d1f"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ErrorCode.INVALID_REQUEST),
        (401, ErrorCode.AUTH),
        (403, ErrorCode.AUTH),
        (404, ErrorCode.INVALID_REQUEST),
        (408, ErrorCode.TIMEOUT),
        (413, ErrorCode.INVALID_REQUEST),
        (422, ErrorCode.INVALID_REQUEST),
        (429, ErrorCode.RATE_LIMITED),
        (500, ErrorCode.BAD_UPSTREAM),
        (502, ErrorCode.BAD_UPSTREAM),
        (503, ErrorCode.OVERLOADED),
        (504, ErrorCode.TIMEOUT),
        (529, ErrorCode.OVERLOADED),
        (307, ErrorCode.BAD_UPSTREAM),
        (204, ErrorCode.BAD_UPSTREAM),
    ],
)
def test_a_status_has_its_code_and_the_providers_words_stay_behind(status: int, code: ErrorCode) -> None:
    """Each status is one code of the closed list; what the provider wrote is not passed on."""
    body = orjson.dumps({"error": {"message": CANARY, "type": "x"}})
    error = refused(status, {}, body)

    assert error.code == code
    assert CANARY not in error.detail
    assert str(status) in error.detail


@pytest.mark.parametrize(
    ("status", "error", "code"),
    [
        (400, {"code": "context_length_exceeded"}, ErrorCode.CONTEXT_TOO_LONG),
        (400, {"type": "exceed_context_size_error", "code": 400}, ErrorCode.CONTEXT_TOO_LONG),
        (400, {"message": "This model's maximum context length is 9 tokens"}, ErrorCode.CONTEXT_TOO_LONG),
        (400, {"code": "content_filter"}, ErrorCode.CONTENT_FILTER),
        (404, {"code": "model_not_found"}, ErrorCode.UNKNOWN_MODEL),
        (404, {"message": 'model "x" not found, try pulling it first'}, ErrorCode.UNKNOWN_MODEL),
        (404, "404 page", ErrorCode.INVALID_REQUEST),
    ],
)
def test_the_known_servers_ways_of_saying_are_understood(status: int, error: object, code: ErrorCode) -> None:
    """OpenAI, vLLM, llama.cpp and Ollama each word it their own way."""
    assert refused(status, {}, orjson.dumps({"error": error})).code == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"code": 429}, ErrorCode.RATE_LIMITED),
        ({"code": "rate_limit_exceeded"}, ErrorCode.RATE_LIMITED),
        ({"type": "overloaded_error"}, ErrorCode.OVERLOADED),
        ({"type": "exceed_context_size_error", "code": 400}, ErrorCode.CONTEXT_TOO_LONG),
        ({"message": "boom"}, ErrorCode.BAD_UPSTREAM),
        ("boom", ErrorCode.BAD_UPSTREAM),
        (["boom"], ErrorCode.BAD_UPSTREAM),
    ],
)
def test_an_error_inside_a_stream_has_its_code(error: object, code: ErrorCode) -> None:
    """Error objects of any shape become one code."""
    assert stated(error).code == code


def test_a_wait_is_read_in_all_three_forms() -> None:
    """Milliseconds, seconds and HTTP dates are understood; the finest wins."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)

    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after": "0.5"}) == 0.5
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    assert 60 < (retry_after({"retry-after": later}) or 0) <= 90
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("body", "wait"),
    [
        ({"error": {"details": [{"@type": "x"}, {"retryDelay": "7s"}]}}, 7),
        ({"error": {"details": [{"retryDelay": "1e99s"}]}}, 86_400),
        ({"error": {"details": [{"retryDelay": "soon"}, {"retryDelay": 3}, "x"]}}, None),
        ({"error": {"details": "7s"}}, None),
        ({"error": "7s"}, None),
    ],
)
def test_a_wait_in_the_body_is_read(body: object, wait: float | None) -> None:
    """Gemini tells the wait in the details of its error; a header goes before it."""
    assert refused(429, {}, orjson.dumps(body)).retry_after == wait
    assert refused(429, {"retry-after": "2"}, orjson.dumps(body)).retry_after == 2


@pytest.mark.parametrize(
    ("status", "message", "code"),
    [
        (400, "Your credit balance is too low to access the API", ErrorCode.AUTH),
        (400, "API key not valid. Please pass a valid API key.", ErrorCode.AUTH),
        (400, "prompt is too long: 210000 tokens > 200000 maximum", ErrorCode.CONTEXT_TOO_LONG),
        (404, "model: claude-none", ErrorCode.UNKNOWN_MODEL),
    ],
)
def test_a_reason_goes_before_its_status(status: int, message: str, code: ErrorCode) -> None:
    """What Anthropic and Gemini say beside a status that could mean anything has its own code."""
    assert refused(status, {}, orjson.dumps({"error": {"type": "x", "message": message}})).code == code


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_wait_is_sane(seconds: str, millis: str) -> None:
    """Whatever the headers hold, the wait is absent or between nothing and a day."""
    wait = retry_after({"retry-after": seconds, "retry-after-ms": millis})

    assert wait is None or 0 <= wait <= 86_400


@given(st.binary(max_size=200))
def test_any_error_body_is_survived(body: bytes) -> None:
    """A body that is no error document leaves the status to speak."""
    assert refused(400, {}, body).code in ErrorCode
