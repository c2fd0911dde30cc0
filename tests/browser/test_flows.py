"""What people do with the console, step by step, as they do it."""

import re
from typing import Any

import pytest
from looking import shoot
from playwright.sync_api import Route, expect


def test_a_finding_leads_to_its_requests(open_watched: Any, seen: dict[str, Any]) -> None:
    """From a finding of the overview one gets to its requests, and from one of them to why it waits."""
    watched = open_watched()
    page = watched.open("")
    page.get_by_role("link", name="Its requests").click()
    expect(page).to_have_url(re.compile(r"/console/requests\?model=mistral-small&status=pending"))
    page.locator("tbody tr").first.get_by_role("link").click()

    expect(page.get_by_role("region", name="Why it waits")).to_contain_text("model_held_back")
    assert [] == watched.problems()


def test_filters_are_in_the_address(open_watched: Any) -> None:
    """What is searched for is in the address, so that a reload and the back button have it too."""
    watched = open_watched()
    page = watched.open("/requests")
    page.get_by_role("searchbox").fill("model:gemma3-12b state:completed")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"model=gemma3-12b&status=completed"))
    expect(page.locator("tbody tr")).to_have_count(14)
    page.reload()
    expect(page.locator("tbody tr")).to_have_count(14)
    page.get_by_text("Filter", exact=True).click()
    shoot(page, "flow-filter")
    page.get_by_role("button", name=re.compile("Remove the filter Model")).click()

    expect(page.locator("tbody tr")).not_to_have_count(14)
    assert [] == watched.problems()


def test_a_search_that_means_nothing_says_so(open_watched: Any) -> None:
    """A word that is no filter is named, and nothing is filtered."""
    watched = open_watched()
    page = watched.open("/requests")
    page.get_by_role("searchbox").fill("colour:red")
    page.keyboard.press("Enter")

    expect(page.get_by_role("alert")).to_contain_text("colour:red")
    assert [] == watched.problems()


def test_an_id_opens_its_request(open_watched: Any, seen: dict[str, Any]) -> None:
    """An id that is pasted into the search opens the request."""
    watched = open_watched()
    page = watched.open("/requests")
    page.keyboard.press("/")
    page.keyboard.type(seen["completed"])
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile(seen["completed"]))
    expect(page.get_by_role("heading", level=1)).to_contain_text("completed")


def test_a_stream_resumes_from_an_event(open_watched: Any, seen: dict[str, Any]) -> None:
    """A stream that is resumed behind an event has what came after it, and not what came before."""
    watched = open_watched()
    page = watched.open(f"/requests/{seen['completed']}")
    events = page.get_by_role("region", name="Events")
    expect(events.locator("tbody tr").last).to_contain_text("completed")
    row = events.locator("tbody tr", has_text="started")
    row.get_by_role("button", name="Resume from here").click()

    expect(events).to_contain_text("resumed after 1.0")
    expect(events.locator("tbody tr").last).to_contain_text("completed")
    expect(events.locator("tbody tr", has_text="started")).to_have_count(0)
    assert [] == watched.problems()


def test_tokens_are_watched_as_they_come(open_watched: Any, seen: dict[str, Any]) -> None:
    """The text of a running request grows while one looks at it, and follows its end."""
    watched = open_watched()
    page = watched.open(f"/requests/{seen['running']}")
    answer = page.get_by_role("region", name="Text of the answer")
    before = len(answer.text_content() or "")

    page.wait_for_function(
        "([before]) => document.querySelector('.said.long').textContent.length > before + 40", arg=[before]
    )
    shoot(page, "flow-tokens")
    assert [] == watched.problems()


def test_the_keyboard_is_enough(open_watched: Any) -> None:
    """Going to the list, choosing rows, opening one and the help need no mouse."""
    watched = open_watched()
    page = watched.open("")
    page.keyboard.press("g")
    page.keyboard.press("r")
    expect(page.get_by_role("heading", name="Requests", level=1)).to_be_visible()
    expect(page.locator("tbody tr").first).to_be_visible()
    for key in "jxjx":
        page.keyboard.press(key)
    expect(page.get_by_role("toolbar")).to_contain_text("2 chosen")
    shoot(page, "flow-chosen")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Next row")
    shoot(page, "flow-keys")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")

    expect(page).to_have_url(re.compile(r"/console/requests/[0-9a-f-]{36}"))
    assert [] == watched.problems()


@pytest.mark.parametrize("path", ["", "/requests", "/keys"])
def test_simulated_answers_are_named(path: str, open_watched: Any) -> None:
    """Each page says that answers are simulated and leads to the models, unless one of them is not."""
    watched = open_watched()
    page = watched.open(path)
    said = page.get_by_text("Answers are simulated: no model is connected.")
    expect(said.get_by_role("link", name="Models")).to_be_visible()

    def connected(route: Route) -> None:
        models = route.fetch().json()
        models["data"][0]["owned_by"] = "ollama"
        route.fulfill(json=models)

    page.route(re.compile("/openai/v1/models$"), connected)
    with page.expect_response(re.compile("/openai/v1/models$")):
        page.reload()
    watched.settle()
    expect(said).to_have_count(0)
    assert [] == watched.problems()


def test_the_console_is_frozen(open_watched: Any) -> None:
    """A frozen console says so and since when, asks for no numbers, and goes on when it is unfrozen."""
    watched = open_watched()
    page = watched.open("/queue")
    page.wait_for_selector(".dot.is-live")
    page.keyboard.press(".")
    expect(page.get_by_role("status").filter(has_text="frozen")).to_be_visible()
    page.get_by_role("button", name="Unfreeze").click()

    page.wait_for_selector(".dot.is-live")
    assert [] == watched.problems()


def test_an_action_says_first_what_it_would_do(open_watched: Any, seen: dict[str, Any]) -> None:
    """Acting on all that match a filter first says how many it would be, and does nothing until it is confirmed."""
    watched = open_watched()
    page = watched.open("/requests?model=mistral-small&status=pending")
    page.get_by_role("checkbox", name="Choose all on this page").check()
    page.get_by_role("checkbox", name="all that match the filters").check()
    page.get_by_role("button", name="Priority").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Priority, 9 first").select_option("8")
    expect(dialog).to_contain_text("4 requests would be changed")
    expect(dialog).to_contain_text("model mistral-small of every owner")
    shoot(page, "flow-dry-run")
    dialog.get_by_role("button", name="Set priority 8").click()

    expect(page.get_by_role("status").filter(has_text="4 requests changed")).to_be_visible()
    page.goto(f"{page.url.partition('/console')[0]}/console/requests/{seen['waiting']}")
    expect(page.get_by_role("button", name="Priority 8")).to_be_visible()
    assert [] == watched.problems()


def test_a_phone_shows_which_page_it_is(open_watched: Any) -> None:
    """The strip of pages, which is wider than a phone, shows the one that is open."""
    watched = open_watched(390)
    page = watched.open("/audit")

    expect(page.get_by_role("link", name="Audit", exact=True)).to_be_in_viewport()
    assert [] == watched.problems()


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (390, "dark")])
def test_a_user_signs_in_and_out(width: int, theme: str, open_watched: Any, seen: dict[str, Any]) -> None:
    """A user signs in, sees their own pages only, and after signing out sees none."""
    watched = open_watched(width, theme)
    watched.expected = {401}
    page = watched.page
    page.goto(f"{seen['closed']}/console/requests")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password", exact=True).fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not match")
    shoot(page, f"flow-signin-{width}-{theme}")
    page.get_by_label("Password", exact=True).fill(seen["password"])
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Requests")
    page.goto(f"{seen['closed']}/console")
    expect(page.get_by_text("Parked")).to_be_visible()
    expect(page.get_by_text("Dead letters")).to_have_count(0)
    page.get_by_role("button", name="Sign out").click()

    expect(page.get_by_label("Name")).to_be_visible()
    assert [] == watched.problems()
