"""Promises of gateway/outcome.py: what a POST that waited is told."""

from uuid import uuid4

import pytest

from gateway.accept import Ask, trace
from gateway.auth import Principal
from gateway.live import LiveRequest
from gateway.outcome import still_running
from schemas.api.messages import PostMessage
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ERRORS, ErrorCode
from schemas.replies import RequestError


@pytest.mark.parametrize("failed", [False, True])
def test_who_has_waited_long_enough_is_told_what_held_it_up(failed: bool) -> None:
    """The last attempt's error, where there was one; the request goes on."""
    body = PostMessage.model_validate({"messages": [{"role": "user", "content": "hi"}]})
    ask = Ask(Principal(DEFAULT_TENANT, "", frozenset()), uuid4(), body, "hash", trace(None), caller_waits=True)
    live = LiveRequest()
    if failed:
        live.fail_attempt(2, RequestError(code=ErrorCode.RATE_LIMITED, detail="status 429"))

    problem = still_running(ask, live)

    assert (ErrorCode.STILL_RUNNING, ask.id) == (problem.code, problem.request_id)
    said = "it is not answered yet; the last attempt that failed: rate_limited: status 429"
    assert (said if failed else ERRORS[ErrorCode.STILL_RUNNING].title) == problem.detail
