"""A newcomer finds out why a request is stuck, from the overview by clicks and its id, and fixes it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from addresses import URL
from looking import shoot
from playwright.sync_api import APIRequestContext, Locator, Page, expect

LONG_MS = 60_000
# In seconds. By then every worker knows of a drain and of a pause.
STOPPED_AFTER = 5


@pytest.fixture
def api(open_watched: Any) -> Iterator[APIRequestContext]:
    """The gateway, for what others did before someone looks. What they stopped goes on after the test."""
    calls = open_watched().page.request
    yield calls
    for worker in calls.get(f"{URL}/v1/workers").json()["data"]:
        calls.post(f"{URL}/v1/workers/{worker['id']}/resume")
    for pause in calls.get(f"{URL}/v1/queue").json()["pauses"]:
        calls.post(f"{URL}/v1/models/{pause['model']}/resume")


def send(api: APIRequestContext, model: str, **more: Any) -> dict[str, Any]:
    """A request as it was accepted; of it, who looks knows the id."""
    body = {"model": model, "messages": [{"role": "user", "content": "Why is there no answer?"}], **more}
    answer = api.post(f"{URL}/v1/messages", data=body, headers={"Prefer": "respond-async"})
    assert answer.ok, answer.text()
    found: dict[str, Any] = answer.json()
    return found


def soon(seconds: float) -> str:
    """The time in this many seconds."""
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def find(page: Page, request: dict[str, Any]) -> Locator:
    """From the overview to the list, where the id is looked for: one that no worker has read is in no list."""
    page.get_by_role("link", name="Requests", exact=True).click()
    page.get_by_role("searchbox").fill(request["id"])
    page.keyboard.press("Enter")
    return page.get_by_role("region", name="Why it waits")


def state(page: Page) -> Any:
    return expect(page.get_by_role("heading", level=1), "the state of the request")


def test_no_worker(open_watched: Any, api: APIRequestContext) -> None:
    """All workers drain: the overview says so, the request says so and leads to them, and one is let work again."""
    for worker in api.get(f"{URL}/v1/workers").json()["data"]:
        api.post(f"{URL}/v1/workers/{worker['id']}/drain")
    watched = open_watched()
    page = watched.open("")
    expect(page.get_by_role("region", name="What needs you")).to_contain_text("Every worker drains", timeout=LONG_MS)
    sent = send(api, "llama3", not_before=soon(STOPPED_AFTER))
    shoot(page, "stuck-no-worker-overview", whole=True)
    why = find(page, sent)
    expect(why).to_contain_text("no_worker", timeout=LONG_MS)
    shoot(page, "stuck-no-worker", whole=True)
    why.get_by_role("link", name="Workers").click()
    page.get_by_role("button", name="Let it work again").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Let it work").click()
    page.go_back()

    state(page).to_contain_text("completed", timeout=LONG_MS)
    shoot(page, "stuck-no-worker-fixed", whole=True)
    assert [] == watched.problems()


def test_a_model_refuses(open_watched: Any, api: APIRequestContext) -> None:
    """The model refuses calls: the finding leads to its request, which is cancelled and asked of another model."""
    sent = send(api, "mistral-small")
    watched = open_watched()
    page = watched.open("")
    needs = page.get_by_role("region", name="What needs you")
    expect(needs).to_contain_text("Model mistral-small refuses calls")
    needs.get_by_role("link", name="Its requests").click()
    page.get_by_role("link", name=sent["id"][-8:]).click()
    why = page.get_by_role("region", name="Why it waits")
    expect(why).to_contain_text("model_held_back", timeout=LONG_MS)
    expect(why).to_contain_text("rate_limited")
    shoot(page, "stuck-model-refuses", whole=True)
    page.get_by_role("button", name="Cancel", exact=True).click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel it").click()
    state(page).to_contain_text("cancelled")
    copy = page.get_by_label("Copy the conversation's id")
    page.get_by_role("definition").filter(has=copy).get_by_role("link").click()
    page.get_by_label("Model").select_option("llama3")
    page.get_by_label("Message", exact=True).fill("Why is there no answer?")
    page.get_by_role("button", name="Send").click()

    expect(page.locator(".turn").last).to_contain_text("completed", timeout=LONG_MS)
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
    expect(page.get_by_role("region", name="What needs you")).to_contain_text("Model gemma3-12b is paused")
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
    """Its deadline passed while it waited: the request says so, and is sent again without one."""
    api.post(f"{URL}/v1/models/gemma3-12b/pause")
    sent = send(api, "gemma3-12b", not_before=soon(STOPPED_AFTER), deadline=soon(STOPPED_AFTER + 1))
    watched = open_watched()
    page = watched.open("")
    find(page, sent)
    state(page).to_contain_text("expired", timeout=LONG_MS)
    expect(page.get_by_role("region", name="What happened")).to_contain_text("deadline")
    shoot(page, "stuck-deadline", whole=True)
    api.post(f"{URL}/v1/models/gemma3-12b/resume")
    page.get_by_role("button", name="Retry").click()
    page.get_by_role("dialog").get_by_role("button", name="Retry it").click()

    state(page).to_contain_text("completed", timeout=LONG_MS)
    shoot(page, "stuck-deadline-fixed", whole=True)
    assert [] == watched.problems()
