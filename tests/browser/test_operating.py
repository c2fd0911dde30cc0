"""What operators do with dead letters, records, the queue and workers."""

import re
from typing import Any

from looking import shoot
from playwright.sync_api import expect


def test_a_dead_letter_is_repaired_in_hex(open_watched: Any, seen: dict[str, Any]) -> None:
    """A byte is changed in hex, the difference shows it, a check allows it, and sent again the request is completed."""
    watched = open_watched()
    page = watched.open("/dead-letters?reason=not_json")
    page.get_by_role("link", name=seen["to_repair"], exact=True).click()
    send = page.get_by_role("button", name="Send again")
    expect(send).to_be_disabled()
    digits = page.get_by_role("textbox", name="Bytes in hexadecimal digits")
    text = digits.input_value()
    # The cursor goes to the byte that is not UTF-8; it is replaced, and another one inserted behind it.
    at = text.index("eb")
    digits.evaluate("(field, at) => { field.focus(); field.setSelectionRange(at, at); }", at)
    page.keyboard.type("c3")
    page.keyboard.press("Insert")
    page.keyboard.type("ab")
    assert digits.input_value().replace("\n", " ") == f"{text[:at]}c3 ab{text[at + 2 :]}".replace("\n", " ")
    shoot(page, "flow-hex")
    page.get_by_role("button", name="Difference").click()
    expect(page.locator("del")).to_have_text(r"\xeb")
    expect(page.locator("ins")).to_have_text("ë")
    why = page.get_by_role("region", name="Why it was refused")
    expect(why).to_contain_text("Not checked since the last change")
    page.get_by_role("button", name="Check").click()
    expect(why).to_contain_text("A worker would take it like this")
    shoot(page, "flow-difference")
    page.get_by_role("button", name="Save and send again").click()
    page.get_by_role("dialog").get_by_role("button", name="Save and send").click()
    page.get_by_role("link", name="its request").click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("completed")
    expect(page.get_by_role("region", name="Messages")).to_contain_text("Zoë")
    assert [] == watched.problems()


def test_a_draft_survives_other_pages(open_watched: Any) -> None:
    """What was edited and not saved is still there after looking at another page, and can be discarded."""
    watched = open_watched()
    page = watched.open("/dead-letters")
    page.locator("tbody tr", has_text="tombstone").get_by_role("link").first.click()
    page.get_by_role("button", name="Text", exact=True).click()
    page.get_by_role("textbox", name="Value as text").fill('{"messages": []}')
    page.get_by_role("button", name="Add a header").click()
    page.get_by_role("textbox", name="Name of header 3").fill("reason")
    page.get_by_role("button", name="Check").click()
    expect(page.get_by_role("region", name="Why it was refused")).to_contain_text("it would be refused again")
    page.get_by_role("link", name="Workers", exact=True).click()
    page.go_back()

    expect(page.get_by_role("textbox", name="Value as text")).to_have_value('{"messages": []}')
    expect(page.get_by_role("textbox", name="Name of header 3")).to_have_value("reason")
    page.get_by_role("button", name="Discard the changes").click()
    expect(page.get_by_role("button", name="Save", exact=True)).to_be_disabled()
    assert [] == watched.problems()


def test_sending_many_says_first_how_many(open_watched: Any) -> None:
    """Sending all that match again first says how many it would be and how many would be left alone."""
    watched = open_watched()
    page = watched.open("/dead-letters")
    page.get_by_text("Filter", exact=True).click()
    page.get_by_label("Reason").fill("invalid_request")
    page.get_by_role("button", name="Apply").click()
    expect(page).to_have_url(re.compile("reason=invalid_request"))
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("button", name="Send again all that match").click()
    dialog = page.get_by_role("dialog")

    expect(dialog).to_contain_text("0 dead letters would be sent again")
    expect(dialog).to_contain_text("2 that would be refused again")
    expect(dialog.get_by_role("button", name="Send 0 dead letters again")).to_be_disabled()
    shoot(page, "flow-letters-dry-run")
    assert [] == watched.problems()


def test_from_a_letter_to_its_record(open_watched: Any, seen: dict[str, Any]) -> None:
    """The record of a dead letter is shown in its partition, with its bytes, and from it the records around it."""
    watched = open_watched()
    page = watched.open(f"/dead-letters/{seen['letter']}")
    page.get_by_role("link", name=f"llm.requests[{seen['record']['partition']}]").click()
    expect(page.get_by_role("region", name="Value in hexadecimal digits")).to_contain_text("e9")
    shoot(page, "flow-record")
    page.get_by_role("link", name="oldest").click()
    page.get_by_role("button", name="Contents of record 0").click()
    page.locator("tbody").get_by_role("link").first.click()

    expect(page.get_by_role("heading", level=1)).to_contain_text("Request")
    assert [] == watched.problems()


def test_the_queue_says_who_reads_a_partition(open_watched: Any) -> None:
    """Partitions name the worker that reads them, another topic is in the address, and workers link to theirs."""
    watched = open_watched()
    page = watched.open("/queue")
    partitions = page.get_by_role("region", name="Partitions")
    expect(partitions.locator("tbody tr")).to_have_count(32)
    expect(partitions.get_by_role("link", name="…").first).to_be_visible()
    page.get_by_label("Topic").select_option("llm.events")
    expect(page).to_have_url(re.compile("topic=llm.events"))
    expect(partitions).to_contain_text("workers do not read it")
    page.get_by_role("link", name="Workers", exact=True).click()
    expect(page.get_by_role("region", name="Worker ")).to_have_count(2)
    page.get_by_role("link", name="llm.requests").first.click()

    expect(page).to_have_url(re.compile("/queue.topic=llm.requests"))
    assert [] == watched.problems()


def test_a_model_is_paused_and_resumed(open_watched: Any) -> None:
    """A paused model says why, its waiting requests are counted as paused, and it is resumed from the same page."""
    watched = open_watched()
    page = watched.open("/queue")
    row = page.get_by_role("region", name="Waiting by model").get_by_role("row", name="mistral-small")
    row.get_by_role("button", name="Pause").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Why").fill("<b>the provider moves</b>")
    dialog.get_by_role("button", name="Pause").click()
    paused = page.get_by_role("region", name="Paused")
    expect(paused).to_contain_text("Model mistral-small is paused. <b>the provider moves</b>")
    expect(row).to_contain_text("paused")
    shoot(page, "flow-paused")
    paused.get_by_role("button", name="Resume").click()
    page.get_by_role("dialog").get_by_role("button", name="Resume").click()

    expect(paused).to_have_count(0)
    assert [] == watched.problems()


def test_a_worker_is_drained_and_works_again(open_watched: Any) -> None:
    """A worker that drains says so and what helps, and works again when it is let."""
    watched = open_watched()
    page = watched.open("/workers")
    worker = page.get_by_role("region", name="Worker ").first
    worker.get_by_role("button", name="Drain").click()
    page.get_by_role("dialog").get_by_role("button", name="Drain it").click()
    expect(worker).to_contain_text("draining")
    shoot(page, "flow-draining")
    worker.get_by_role("button", name="Let it work again").click()
    page.get_by_role("dialog").get_by_role("button", name="Let it work").click()

    expect(worker).to_contain_text("alive")
    assert [] == watched.problems()


def test_an_owner_is_erased(open_watched: Any) -> None:
    """The data of an owner are counted first; what was erased is shown until it is done, without the owner's name."""
    watched = open_watched()
    page = watched.open("/people")
    page.get_by_role("button", name="Erase data …").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Erase it")).to_be_disabled()
    dialog.get_by_label("Id of a user").fill("the name of no owner")
    dialog.get_by_role("button", name="Count what there is").click()
    expect(dialog.get_by_role("status")).to_contain_text("0 requests")
    shoot(page, "flow-erase")
    dialog.get_by_role("button", name="Erase it").click()

    erasures = page.get_by_role("region", name="Erasures")
    expect(erasures.get_by_text("running")).to_be_visible()
    expect(erasures).not_to_contain_text("the name of no owner")
    shoot(page, "flow-erased")
    assert [] == watched.problems()


def test_only_what_was_counted_is_erased(open_watched: Any) -> None:
    """Counts that arrive when another owner is typed already do not allow to erase that one."""
    watched = open_watched()
    page, held = watched.open("/people"), list[Any]()
    page.route("**/v1/erasures", lambda route: held.append(route))  # noqa: PLW0108 - the library takes no method of C
    page.get_by_role("button", name="Erase data …").click()
    dialog = page.get_by_role("dialog")
    owner, yes = dialog.get_by_label("Id of a user"), dialog.get_by_role("button", name="Erase it")
    owner.fill("one owner")
    with page.expect_request("**/v1/erasures"):
        dialog.get_by_role("button", name="Count what there is").click()
    owner.fill("another")
    with page.expect_response("**/v1/erasures"):
        held.pop().continue_()
    page.evaluate("() => new Promise(requestAnimationFrame)")

    expect(yes).to_be_disabled()
    owner.fill("one owner")
    expect(yes).to_be_enabled()
    assert [] == watched.problems()
