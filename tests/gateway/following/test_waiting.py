"""Promises of gateway/following/waiting.py: the response to a POST that waited."""

from uuid import uuid4

import orjson
import pytest

from gateway.following.live import Ending, LiveRequest
from gateway.following.waiting import answer, still_running
from gateway.http.problems import RequestProblemError
from gateway.people.principal import Principal
from gateway.submission import Submission, trace
from schemas.api.messages import PostMessage
from schemas.envelope import DEFAULT_TENANT
from schemas.errors import ERRORS, ErrorCode
from schemas.replies import RequestError
from schemas.status import Status
from tests.support.tree import ROOT


def ask() -> Submission:
    """The submission of a caller that waits."""
    body = PostMessage.model_validate({"messages": [{"role": "user", "content": "hi"}]})
    return Submission(Principal(DEFAULT_TENANT, "", frozenset()), uuid4(), body, "hash", trace(None), caller_waits=True)


def told(ending: Ending) -> RequestProblemError:
    """The problem that the caller gets for an ending without a reply."""
    with pytest.raises(RequestProblemError) as raised:
        answer(ask(), ending, "llama3")
    return raised.value


def on_the_page() -> dict[str, dict[str, str]]:
    """The rows of docs/reference/errors.md by their code, each by its column titles."""
    page = (ROOT / "docs/reference/errors.md").read_text("utf-8").partition("\n## ")[0]
    head, _, *rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): dict(zip(head, row, strict=True)) for row in rows}


@pytest.mark.parametrize("code", ErrorCode)
def test_who_waits_is_told_the_status_of_the_errors_page(code: ErrorCode) -> None:
    """Whatever a request ends with, a waiting caller gets the status that the errors page has for its code."""
    statuses = {ErrorCode.EXPIRED: Status.EXPIRED, ErrorCode.CANCELLED: Status.CANCELLED}
    error = RequestError(code=code, detail="the model said no")
    problem = told(Ending(statuses.get(code, Status.FAILED), 1, error=error))

    assert (code, on_the_page()[code]["waiting"]) == (problem.code, str(problem.status))


def test_the_models_side_is_502() -> None:
    """As in the previous system, a waiting client sees one status for all failures behind the gateway."""
    behind_us = "rate_limited overloaded timeout auth content_filter bad_upstream quota_exhausted internal"
    for code in behind_us.split():
        assert "502" == on_the_page()[code]["waiting"]
    assert 502 == told(Ending(Status.FAILED, 1)).status


@pytest.mark.parametrize("failed", [False, True])
def test_who_has_waited_long_enough_is_told_what_held_it_up(failed: bool) -> None:
    """A POST that has waited long enough names the last attempt's error, if there was one; the request goes on."""
    asked = ask()
    live = LiveRequest()
    if failed:
        live.fail_attempt(2, RequestError(code=ErrorCode.RATE_LIMITED, detail="status 429"))

    problem = still_running(asked, live)

    assert (ErrorCode.STILL_RUNNING, asked.id) == (problem.code, problem.request_id)
    said = "not answered yet; the last failed attempt: rate_limited: status 429"
    assert (said if failed else ERRORS[ErrorCode.STILL_RUNNING].title) == problem.detail


def test_a_response_has_the_items_of_an_answer() -> None:
    """A waiting caller gets the items beside the text; of an answer that is one text, what release 0.1.0 wrote."""
    items = [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]
    plain, more = (
        orjson.loads(bytes(answer(ask(), Ending(Status.COMPLETED, 1, "", output=output), "llama3").body))
        for output in (None, items)
    )

    names = {"conversation_id", "reply", "request_id", "model", "usage", "finish_reason", "metadata"}
    assert names == plain.keys()
    assert (names | {"output"}, items) == (more.keys(), more["output"])
