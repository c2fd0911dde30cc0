"""A newcomer finds out why a request is stuck, and fixes it: from the overview, by nothing but clicks."""

import json
import os
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from addresses import URL
from looking import shoot
from playwright.sync_api import APIRequestContext, Locator, Page, expect

LONG_MS = 60_000
# In seconds. By then every worker knows of a drain and of a pause.
STOPPED_AFTER = 5
WORKERS = 2


@pytest.fixture
def api(open_watched: Any) -> Iterator[APIRequestContext]:
    """The gateway, for what others did before someone looks. What they stopped goes on after the test."""
    calls = open_watched().page.request
    yield calls
    for worker in calls.get(f"{URL}/v1/workers").json()["data"]:
        calls.post(f"{URL}/v1/workers/{worker['id']}/resume")
    for pause in calls.get(f"{URL}/v1/queue").json()["pauses"]:
        calls.post(f"{URL}/v1/models/{pause['model']}/resume")


@pytest.fixture
def without_workers() -> Iterator[None]:
    """All workers are stopped, and run again after the test."""
    _orchestra("scale", "workers", "0")
    yield
    _orchestra("scale", "workers", f"{WORKERS}")


@contextmanager
def run(command: str) -> Iterator[None]:
    """Run a command as an operator does who has the settings of the deployment, until the end of the body."""
    settings = json.loads(_orchestra("status", "--json"))["env"]
    env = {**os.environ, **settings, "METRICS_PORT": "0", "DRAIN_SECONDS": "2"}
    started = subprocess.Popen(shlex.split(command), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        started.terminate()
        started.wait(60)


def _orchestra(*words: str) -> str:
    command = ["orchestra", *words, "--data", os.environ["CONSOLE_STACK"]]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=words[0] != "status").stdout


def send(api: APIRequestContext, model: str, **more: Any) -> dict[str, Any]:
    """A request as it was accepted; of it, who looks knows how its id ends."""
    body = {"model": model, "messages": [{"role": "user", "content": "Why is there no answer?"}], **more}
    answer = api.post(f"{URL}/v1/messages", data=body, headers={"Prefer": "respond-async"})
    assert answer.ok, answer.text()
    found: dict[str, Any] = answer.json()
    return found


def soon(seconds: float) -> str:
    """The time in this many seconds."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def row_of(page: Page, request: dict[str, Any]) -> Locator:
    """The link to a request in a list or a table."""
    return page.get_by_role("link", name=request["id"][-8:])


def find(page: Page, request: dict[str, Any]) -> Locator:
    """From the overview to the list, and in it to the request. A list shows what came since when it is asked to."""
    page.get_by_role("link", name="Requests", exact=True).click()
    newer = page.get_by_role("button", name="newer")
    expect(row_of(page, request).or_(newer).first).to_be_visible()
    if not row_of(page, request).is_visible():
        newer.click()
    row_of(page, request).click()
    return page.get_by_role("region", name="Why it waits")


def state(page: Page) -> Any:
    return expect(page.get_by_role("heading", level=1), "the state of the request")


def needs_of(page: Page) -> Locator:
    """What needs someone, on the overview."""
    return page.get_by_role("region", name="What needs you")


def test_no_worker(open_watched: Any, api: APIRequestContext, without_workers: None) -> None:
    """No worker runs: the request is in no list, the overview leads to its record, and a copied command helps."""
    sent = send(api, "llama3")
    watched = open_watched(permissions=["clipboard-read", "clipboard-write"])
    page = watched.open("")
    expect(needs_of(page)).to_contain_text("No worker is alive: ", timeout=LONG_MS)
    expect(needs_of(page)).to_contain_text("1 record is accepted and not read yet", timeout=LONG_MS)
    expect(page.get_by_role("link", name="Waiting")).to_contain_text("1 accepted, not read yet")
    shoot(page, "stuck-no-worker-overview", whole=True)
    needs_of(page).get_by_role("link", name="Queue").click()
    page.get_by_title("The records that no worker has read").click()
    row_of(page, sent).click()
    why = page.get_by_role("region", name="Why it waits")
    expect(why).to_contain_text("no_worker", timeout=LONG_MS)
    expect(why).to_contain_text("not_read_yet")
    shoot(page, "stuck-no-worker", whole=True)
    why.get_by_role("button", name="Copy the command orchestra worker").click()
    with run(page.evaluate("() => navigator.clipboard.readText()")):
        state(page).to_contain_text("completed", timeout=LONG_MS)
        shoot(page, "stuck-no-worker-fixed", whole=True)

    assert [] == watched.problems()


def test_every_worker_drains(open_watched: Any, api: APIRequestContext) -> None:
    """All workers drain: the overview says so and leads to them, one is let work again, and the request is answered."""
    for worker in api.get(f"{URL}/v1/workers").json()["data"]:
        api.post(f"{URL}/v1/workers/{worker['id']}/drain")
    watched = open_watched()
    page = watched.open("")
    expect(needs_of(page)).to_contain_text("Every worker drains", timeout=LONG_MS)
    sent = send(api, "llama3", not_before=soon(STOPPED_AFTER))
    shoot(page, "stuck-draining-overview", whole=True)
    needs_of(page).get_by_role("link", name="Workers").click()
    page.get_by_role("button", name="Let it work again").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Let it work").click()
    find(page, sent)

    state(page).to_contain_text("completed", timeout=LONG_MS)
    assert [] == watched.problems()


def test_a_model_refuses(open_watched: Any, api: APIRequestContext) -> None:
    """The model refuses calls: the finding leads to its request, which is cancelled and asked again of another."""
    sent = send(api, "mistral-small")
    watched = open_watched()
    page = watched.open("")
    expect(needs_of(page)).to_contain_text("Model mistral-small refuses calls")
    needs_of(page).get_by_role("link", name="Its requests").click()
    row_of(page, sent).click()
    why = page.get_by_role("region", name="Why it waits")
    expect(why).to_contain_text("model_held_back", timeout=LONG_MS)
    expect(why).to_contain_text("rate_limited")
    shoot(page, "stuck-model-refuses", whole=True)
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    state(page).to_contain_text("cancelled")
    page.get_by_role("button", name="Ask again").click()
    page.get_by_label("Model or agent").select_option("llama3")
    page.get_by_role("button", name="Send").click()
    answer = page.get_by_role("region", name="Answer", exact=True)
    expect(answer).to_contain_text("completed", timeout=LONG_MS)
    answer.get_by_role("link", name="its conversation").click()

    expect(page.locator(".turn").first).to_contain_text("cancelled")
    expect(page.locator(".turn").last).to_contain_text("completed")
    shoot(page, "stuck-model-refuses-fixed", whole=True)
    assert [] == watched.problems()


def test_behind_another_turn(open_watched: Any, api: APIRequestContext) -> None:
    """An earlier turn of its conversation goes on and on: the reason leads to that one, which is cancelled."""
    first = send(api, "llama3-70b")
    sent = send(api, "llama3", conversation_id=first["conversation_id"])
    watched = open_watched()
    page = watched.open("")
    why = find(page, sent)
    expect(why).to_contain_text("behind_in_conversation", timeout=LONG_MS)
    shoot(page, "stuck-behind-another", whole=True)
    why.get_by_role("link").click()
    state(page).to_contain_text("in progress")
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    state(page).to_contain_text("cancelled", timeout=LONG_MS)
    page.go_back()

    state(page).to_contain_text("completed", timeout=LONG_MS)
    shoot(page, "stuck-behind-another-fixed", whole=True)
    assert [] == watched.problems()


def test_a_model_is_paused(open_watched: Any, api: APIRequestContext) -> None:
    """Its model is paused: the overview says so, the request says why, and it is resumed where the reason leads."""
    api.post(f"{URL}/v1/models/gemma3-12b/pause", data={"reason": "the provider moves"})
    sent = send(api, "gemma3-12b", not_before=soon(STOPPED_AFTER))
    watched = open_watched()
    page = watched.open("")
    expect(needs_of(page)).to_contain_text("Model gemma3-12b is paused")
    why = find(page, sent)
    expect(why).to_contain_text("model_paused", timeout=LONG_MS)
    expect(why).to_contain_text("the provider moves")
    shoot(page, "stuck-paused", whole=True)
    why.get_by_role("link", name="Models").click()
    page.get_by_role("button", name="Resume model gemma3-12b").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    page.go_back()

    state(page).to_contain_text("completed", timeout=LONG_MS)
    shoot(page, "stuck-paused-fixed", whole=True)
    assert [] == watched.problems()


def test_a_deadline_passed(open_watched: Any, api: APIRequestContext) -> None:
    """Its deadline passed while its model was paused: that is resumed, and the request sent again without one."""
    api.post(f"{URL}/v1/models/gemma3-12b/pause")
    sent = send(api, "gemma3-12b", not_before=soon(STOPPED_AFTER), deadline=soon(STOPPED_AFTER + 1))
    watched = open_watched()
    page = watched.open("")
    find(page, sent)
    state(page).to_contain_text("expired", timeout=LONG_MS)
    expect(page.get_by_role("region", name="What happened")).to_contain_text("deadline")
    shoot(page, "stuck-deadline", whole=True)
    page.get_by_role("link", name="Overview", exact=True).click()
    needs_of(page).get_by_role("link", name="Models").click()
    page.get_by_role("button", name="Resume model gemma3-12b").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()
    expect(page.get_by_role("button", name="Pause model gemma3-12b")).to_be_visible()
    find(page, sent)
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry it").click()

    state(page).to_contain_text("completed", timeout=LONG_MS)
    shoot(page, "stuck-deadline-fixed", whole=True)
    assert [] == watched.problems()
