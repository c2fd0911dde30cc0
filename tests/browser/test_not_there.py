"""Pages of what is not there, or not there yet."""

import re
from typing import Any

import pytest
from playwright.sync_api import Route, expect

NOBODYS = "00000000-0000-7000-8000-000000000000"
MISSING = [
    "/requests/xyz",
    f"/requests/{NOBODYS}",
    "/conversations/xyz",
    f"/conversations/{NOBODYS}",
    "/dead-letters/xyz",
    "/dead-letters/999999",
    "/topics/none/0",
    "/topics/llm.requests/999",
    "/topics/llm.requests/x",
]


@pytest.mark.parametrize("path", MISSING)
def test_an_address_that_names_nothing(path: str, open_watched: Any) -> None:
    """An address that names nothing is an ordinary page with a way back, and the console stays connected."""
    watched = open_watched()
    watched.expected = {404}
    page = watched.open(path)

    expect(page.get_by_text("There is no such")).to_be_visible()
    expect(page.get_by_role("link", name="To the list")).to_be_visible()
    page.wait_for_selector(".dot.is-live")
    assert [] == watched.problems()


@pytest.mark.parametrize("path", ["/topics/llm.requests/0?at=xyz", "/requests?created_after=xyz", "/audit?cursor=xyz"])
def test_an_address_with_a_value_that_means_nothing(path: str, open_watched: Any) -> None:
    """A page whose address has a value that the API refuses says what is wrong, and its fields can still be used."""
    watched = open_watched()
    watched.expected = {422}
    page = watched.open(path)

    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.locator("form").first).to_be_visible()
    assert [] == watched.problems()


def test_the_playground_of_a_request_that_is_not_there(open_watched: Any) -> None:
    """The playground says that the request of its address does not exist, instead of showing a state of it."""
    watched = open_watched()
    watched.expected = {404}
    page = watched.open("/playground?request=xyz")

    expect(page.get_by_text("There is no such request")).to_be_visible()
    assert [] == watched.problems()


def test_a_request_that_no_worker_has_read(open_watched: Any, seen: dict[str, Any]) -> None:
    """A request without a row says that no worker has read it, and offers only to cancel it."""
    watched = open_watched()
    id = seen["waiting"]

    def unread(route: Route) -> None:
        known = dict.fromkeys(route.fetch().json())
        route.fulfill(json={**known, "id": id, "status": "pending", "cancel_requested": False, "errors": []})

    watched.page.route(re.compile(f"/v1/requests/{id}$"), unread)
    page = watched.open(f"/requests/{id}")

    expect(page.get_by_role("region", name="Messages")).to_contain_text("No worker has read its record yet")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.get_by_role("button", name="Priority")).to_have_count(0)
    assert [] == watched.problems()
