from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import orjson
import pytest
from any_llm.exceptions import InvalidRequestError
from hypothesis import given
from hypothesis import strategies as st

from llm_service.providers.refusals import refused, retry_after, stated, understood
from schemas.errors import ErrorCode

CANARY = "canary-7d1f"


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ErrorCode.REFUSED_BY_PROVIDER),
        (401, ErrorCode.AUTH),
        (402, ErrorCode.QUOTA_EXHAUSTED),
        (403, ErrorCode.AUTH),
        (404, ErrorCode.REFUSED_BY_PROVIDER),
        (408, ErrorCode.TIMEOUT),
        (413, ErrorCode.REFUSED_BY_PROVIDER),
        (422, ErrorCode.REFUSED_BY_PROVIDER),
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
    ("error", "code"),
    [
        ({"code": 429}, ErrorCode.RATE_LIMITED),
        ({"code": "rate_limit_exceeded"}, ErrorCode.RATE_LIMITED),
        ({"type": "overloaded_error"}, ErrorCode.OVERLOADED),
        ({"type": "exceed_context_size_error", "code": 400}, ErrorCode.CONTEXT_TOO_LONG),
        ({"error": {"type": "invalid_request_error"}}, ErrorCode.REFUSED_BY_PROVIDER),
        ({"detail": [{"msg": "field required", "type": "value_error", "input": "rate limit"}]}, ErrorCode.BAD_UPSTREAM),
        ({"message": "boom", "code": 500}, ErrorCode.BAD_UPSTREAM),
        ({"message": "boom", "code": "404"}, ErrorCode.REFUSED_BY_PROVIDER),
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
        ({"error": "the model is loading", "estimated_time": 20.5}, 20.5),
        ({"error": "the model is loading", "estimated_time": True}, None),
        ([{"error": {"details": [{"retryDelay": "7s"}]}}], 7),
    ],
)
def test_a_wait_in_the_body_is_read(body: object, wait: float | None) -> None:
    """Gemini and Hugging Face tell the wait in their errors; a header goes before it."""
    assert refused(429, {}, orjson.dumps(body)).retry_after == wait
    assert refused(429, {"retry-after": "2"}, orjson.dumps(body)).retry_after == 2


@pytest.mark.parametrize(
    ("error", "told", "code"),
    [
        (
            {"code": "unsupported_parameter", "param": "max_tokens"},
            ": unsupported_parameter, max_tokens.",
            "unsupported_parameter",
        ),
        ({"code": None, "type": "overloaded_error"}, ": overloaded_error.", "overloaded_error"),
        (
            {"code": 400, "type": "exceed_context_size_error"},
            ": exceed_context_size_error.",
            "exceed_context_size_error",
        ),
        ({"code": "3240", "type": "invalid_request_error"}, ": 3240.", "3240"),
        (
            {"type": "invalid_request_error", "param": "messages[0].content"},
            ": invalid_request_error, messages[0].content.",
            "invalid_request_error",
        ),
        (
            [{"type": "extra_forbidden", "loc": ["body", "messages", 0, "name"], "input": CANARY}],
            ": extra_forbidden, messages.0.name.",
            "extra_forbidden",
        ),
        ({"code": f"no such thing as {CANARY}", "param": CANARY * 10}, ".", None),
        ({"code": ["x"], "type": {"y": 1}, "param": 7}, ".", None),
        (CANARY, ".", None),
    ],
)
def test_the_providers_own_names_are_told_and_its_words_are_not(error: object, told: str, code: str | None) -> None:
    """Code and parameter are in the detail where they look like names; what else was said is kept apart."""
    refusal = refused(400, {}, orjson.dumps({"error": error, "message": CANARY}))

    assert (f"The model's provider answered with status 400{told}", code) == (refusal.detail, refusal.provider_code)
    assert CANARY in refusal.words
    assert CANARY not in refusal.detail


def test_what_any_llm_has_understood_is_told_the_same_way() -> None:
    """Its errors have a status, a code, a parameter and a text of their own; the class speaks where they are silent."""
    known = InvalidRequestError(CANARY, status_code=400, code="unsupported_parameter", param="top_k")
    worded = InvalidRequestError(
        "An error occurred (ThrottlingException) when calling the Converse operation", status_code=400
    )
    refusal = understood(known, ErrorCode.REFUSED_BY_PROVIDER)

    assert (ErrorCode.REFUSED_BY_PROVIDER, CANARY) == (refusal.code, refusal.words)
    assert refusal.detail == "The model's provider refused the call: unsupported_parameter, top_k."
    assert ErrorCode.RATE_LIMITED == understood(worded, ErrorCode.REFUSED_BY_PROVIDER).code


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_wait_is_sane(seconds: str, millis: str) -> None:
    """Whatever the headers hold, the wait is absent or between nothing and a day."""
    wait = retry_after({"retry-after": seconds, "retry-after-ms": millis})

    assert wait is None or 0 <= wait <= 86_400


@given(st.binary(max_size=200))
def test_any_error_body_is_survived(body: bytes) -> None:
    """A body that is no error document leaves the status to speak."""
    assert refused(400, {}, body).code in ErrorCode


_INSIDES = st.sampled_from("error message detail details errors code type status param loc raw retryDelay".split())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_INSIDES, inner),
    )
)
def test_any_error_document_is_survived(document: object) -> None:
    """Errors inside of errors, in any shape, are one code of the closed list."""
    assert stated(document).code in ErrorCode


@pytest.mark.parametrize(
    "body", [b"[" * 60_000, b'{"error":' * 900 + b"1" + b"}" * 900, b'{"error":"' + b"'a" * 30_000 + b'"}']
)
def test_an_error_that_is_all_depth_or_quotes_is_survived(body: bytes) -> None:
    """What an error claims to be costs no more than its bytes."""
    assert ErrorCode.REFUSED_BY_PROVIDER == refused(400, {}, body).code
