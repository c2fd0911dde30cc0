"""What people do in the playground, in conversations, and with keys, step by step."""

import re
from typing import Any

from looking import shoot
from playwright.sync_api import expect


def test_the_playground_survives_a_reload(open_watched: Any) -> None:
    """A reload in the middle of an answer loses no text and repeats none: the stream goes on behind the last event."""
    watched = open_watched()
    page = watched.open("/playground?model=llama3-70b")
    page.get_by_label("Message 1", exact=True).fill("Tell the whole story. <img src=x onerror=alert(1)>")
    page.keyboard.press("Control+Enter")
    answer = page.get_by_role("region", name="Text of the answer")
    expect(answer).to_contain_text(re.compile(".{60}"), timeout=30_000)
    asked: list[str] = []
    page.on("request", lambda request: "/events" in request.url and asked.append(request.url))
    before = answer.inner_text()
    page.reload()
    expect(answer).to_contain_text(before[:60])
    grown = "([text, before]) => text.textContent.length > before + 40"
    page.wait_for_function(grown, arg=[answer.element_handle(), len(before)])
    shoot(page, "flow-playground")
    page.get_by_role("button", name="Events", exact=True).click()
    whole = page.get_by_label("Events as they came").inner_text()
    shoot(page, "flow-playground-events")
    page.get_by_role("button", name="Python", exact=True).click()
    expect(page.get_by_label("The call")).to_contain_text('model="llama3-70b"')
    shoot(page, "flow-playground-python")

    assert re.search(r"last_event_id=1\.\d+", asked[0])
    assert 1 == whole.count("event: started")
    assert "".join(re.findall(r'event: delta\ndata: {"text": ?"([^"]*)"', whole)).startswith(before[:60])
    assert "event: restart" not in whole
    assert [] == watched.problems()


def test_a_turn_is_sent_and_answered(open_watched: Any, seen: dict[str, Any]) -> None:
    """What is said in a conversation appears with its request, and its answer as it comes."""
    watched = open_watched()
    page = watched.open("/conversations")
    expect(page.locator("tbody tr", has_text="Good evening.")).to_contain_text("support desk")
    page.locator("tbody tr", has_text="release 1.4").get_by_role("link").first.click()
    expect(page.get_by_text("Nothing has been said yet.")).to_be_visible()
    page.get_by_label("Model").select_option("llama3")
    page.get_by_label("Message", exact=True).fill("Is <b>this</b> a text?")
    page.get_by_role("button", name="Send").click()

    turn = page.locator(".turn")
    expect(turn).to_contain_text("Is <b>this</b> a text?")
    expect(turn).to_contain_text("completed", timeout=30_000)
    expect(turn.locator(".by-assistant")).to_have_count(1)
    assert [] == watched.problems()


def test_a_key_is_shown_once(open_watched: Any) -> None:
    """A new key is shown when it is made and never again, and one that is revoked stays in the list."""
    watched = open_watched()
    page = watched.open("/keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("What it is for").fill("a test of the console")
    shoot(page, "flow-key-new")
    page.get_by_role("button", name="Create").click()
    secret = page.get_by_label("The key", exact=True).inner_text()
    shoot(page, "flow-key")
    page.get_by_role("button", name="I have stored it").click()
    page.get_by_role("button", name="Revoke a test of the console").click()
    page.get_by_role("button", name="Revoke it").click()

    row = page.locator("tbody tr", has_text="a test of the console")
    expect(row).to_contain_text("revoked")
    assert secret.startswith("orc_")
    assert secret not in page.content()
    assert [] == watched.problems()


def test_a_stale_session_is_asked_for_the_password(open_watched: Any, seen: dict[str, Any]) -> None:
    """If creating access needs a recent session, the password is asked for, and the call is made again."""
    watched = open_watched()
    watched.expected = {403}
    page = watched.page
    page.goto(f"{seen['closed']}/console/keys")
    page.get_by_label("Name").fill("ada")
    page.get_by_label("Password", exact=True).fill(seen["password"])
    page.get_by_role("button", name="Sign in").click()
    refused = {"code": "sign_in_again", "title": "Sign in again", "detail": "", "status": 403, "type": "about:blank"}
    page.route("**/v1/keys", lambda route: route.fulfill(status=403, json=refused), times=1)
    page.get_by_role("button", name="New key").click()
    page.get_by_label("What it is for").fill("laptop of ada")
    expect(page.get_by_text("admin", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Create").click()
    page.get_by_label("Password of ada").fill(seen["password"])
    shoot(page, "flow-again")
    page.get_by_role("button", name="Go on").click()

    expect(page.get_by_label("The key", exact=True)).to_contain_text("orc_")
    assert [] == watched.problems()
