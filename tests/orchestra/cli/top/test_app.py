"""`orchestra top` on a terminal, against a gateway that follows a script."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.events import Key
from textual.pilot import Pilot

from orchestra.cli.top.app import Top
from tests.support.operating import FRAME, ID, OTHER, OWN_FRAME, WORKER, Busy
from tests.support.waiting import eventually

CONTROL = re.compile("[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]")


class Terminal:
    """The application on a terminal without a screen."""

    def __init__(self, app: Top, pilot: "Pilot[Any]") -> None:
        self.app = app
        self.pilot = pilot

    @property
    def text(self) -> str:
        """What is on the screen."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join("".join(segment.text for segment in strip) for strip in strips)

    async def shows(self, *texts: str) -> str:
        """Wait until all of these are on the screen."""

        async def found() -> bool:
            await self.pilot.pause()
            return all(text in self.text for text in texts)

        await eventually(found)
        return self.text

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self.pilot.press(*keys)


@asynccontextmanager
async def terminal(busy: Busy, size: tuple[int, int] = (80, 24)) -> AsyncIterator[Terminal]:
    app = Top(busy.script.url, "orc_a_b")
    async with app.run_test(size=size, notifications=True) as pilot:
        yield Terminal(app, pilot)


async def test_what_happens_now_is_shown(busy: Busy) -> None:
    """What needs someone, the numbers of now and the newest requests, without control characters of callers."""
    async with terminal(busy) as shown:
        text = await shown.shows("live", "20 % of the requests", "Waiting", "500+", "3/min", ID, "gemini-2.5")

    assert "[2Jevil" in text
    assert not CONTROL.search(text)
    assert {len(line) for line in text.splitlines()} == {80}


async def test_what_is_shown_can_be_typed(busy: Busy) -> None:
    """Ids are shown whole, those of workers where there is room; the filter takes them, and the footer names enter."""
    async with terminal(busy, (122, 40)) as shown:
        await shown.shows(ID, OTHER, WORKER, "enter Open")
        await shown.press("slash", *OTHER, "enter")
        await eventually(lambda: {"limit": "50", "id": OTHER} in busy.asked("GET /v1/requests"))


async def test_a_tall_terminal_shows_the_queue_and_the_workers(busy: Busy) -> None:
    """What waits by model, and what each worker does, where there is room."""
    async with terminal(busy, (100, 40)) as shown:
        await shown.shows("runnable", "Worker", "999/1000", "lost")


async def test_one_request_is_shown_with_why_it_waits(busy: Busy) -> None:
    """Enter opens the request at the cursor, j and k move it, escape goes back."""
    waiting = {"id": OTHER, "status": "pending", "position": 44, "reasons": [
        {"code": "no_worker", "detail": "No worker is alive.", "until": None}
    ]}  # fmt: skip
    busy.script.answers[f"GET /v1/requests/{OTHER}"] = {
        **busy.rows[1],
        "messages": [{"role": "user", "content": "[b]"}],
    }
    busy.script.answers[f"GET /v1/requests/{OTHER}/waiting"] = waiting
    async with terminal(busy) as shown:
        await shown.shows(OTHER)
        await shown.press("j", "j", "k", "j", "enter")
        await shown.shows(f"request {OTHER}: pending", "waits: no_worker: No worker is alive.")
        await shown.shows("position: 44", "user: [b]")
        await shown.press("escape")
        await shown.shows(OTHER)


async def test_the_cursor_follows_its_request(busy: Busy) -> None:
    """Newer requests do not move another one under the cursor."""
    busy.script.answers[f"GET /v1/requests/{OTHER}"] = "not_found"
    async with terminal(busy) as shown:
        await shown.shows(OTHER)
        await shown.press("j")
        busy.rows.insert(0, {**busy.rows[0], "id": "00000000-0000-0000-0000-0000aaaaaaaa"})
        await shown.shows("00000000-0000-0000-0000-0000aaaaaaaa")
        await shown.press("enter")
        await shown.shows("not_found")


async def test_a_pasted_filter_runs_no_command(busy: Busy) -> None:
    """What comes in one piece with `/` goes into the filter: no key of it acts on a request."""
    async with terminal(busy) as shown:
        await shown.shows(OTHER)
        for each in "/cyr/cy":
            shown.app.post_message(Key("slash" if each == "/" else each, each))
        await shown.shows("cyr/cy")

        assert [] == shown.app.screen_stack[1:]

    assert [] == busy.asked(f"POST /v1/requests/{ID}/cancel")


async def test_the_list_is_filtered(busy: Busy) -> None:
    """What is typed becomes parameters of the list; what says nothing is refused and asks for nothing."""
    async with terminal(busy) as shown:
        await shown.shows(OTHER)
        await shown.press("slash", *"colour:red", "enter")
        await shown.shows("colour:red: neither an id")
        await shown.press(*["backspace"] * 10, *"state:failed owner:c", "enter")
        asked = "GET /v1/requests"
        await eventually(lambda: {"limit": "50", "status": "failed", "owner": "c"} in busy.asked(asked))
        await shown.press("p")  # A key of the list again.
        await shown.shows("frozen", "state:failed owner:c")

    assert {"50"} == {sent["limit"] for sent in busy.asked(asked)}


@pytest.mark.parametrize(("key", "path"), [("c", f"/v1/requests/{ID}/cancel"), ("r", f"/v1/requests/{ID}/retry")])
async def test_acts_are_confirmed(busy: Busy, key: str, path: str) -> None:
    """Nothing is done before y, and what came of it is said, with the gateway's reason if it refuses."""
    busy.script.answers[f"POST {path}"] = [{**busy.rows[0], "id": OTHER}, "not_retryable"]
    async with terminal(busy) as shown:
        await shown.shows(ID)
        await shown.press(key)
        await shown.shows(f"the request {ID}?")
        await shown.press("n")
        await shown.shows("live", ID)
        assert [] == busy.asked(f"POST {path}")
        await shown.press(key)
        await shown.shows(f"the request {ID}?")
        await shown.press("y")
        await shown.shows("had ended: failed" if key == "c" else "is retried as")
        await shown.press(key)
        await shown.shows(f"the request {ID}?")
        await shown.press("y")
        await shown.shows("not_retryable", "because")

    assert 2 == len(busy.asked(f"POST {path}"))


async def test_frozen_is_frozen(busy: Busy) -> None:
    """After p nothing changes until p is pressed again."""
    async with terminal(busy) as shown:
        await shown.shows("live", "500+")
        await shown.press("p")
        await shown.shows("frozen")
        before = shown.app._feed._received
        busy.show({**FRAME, "runnable": {"count": 77, "more": False}})
        await eventually(lambda: shown.app._feed._received != before)
        assert "500+" in await shown.shows("frozen")
        await shown.press("p")
        busy.show({**FRAME, "runnable": {"count": 78, "more": False}})
        await shown.shows("live", "78")


async def test_a_gateway_that_goes_away_and_comes_back(busy: Busy) -> None:
    """It says since when there is no connection and why, and goes on by itself."""
    back = False
    async with terminal(busy) as shown:
        await shown.shows("live", "500+")
        busy.script.answers["GET /v1/live"] = lambda _: busy.frames if back else 503
        busy.frames.put_nowait(None)
        await shown.shows("not connected since", "trying again", "500+")
        back = True
        busy.show({**FRAME, "runnable": {"count": 79, "more": False}})
        await shown.shows("live", "79")


async def test_users_see_their_own(busy: Busy) -> None:
    """Without the scope `operate` there are one's own numbers, and nothing is asked that would be refused."""
    busy.frames.get_nowait()
    busy.show(OWN_FRAME)
    async with terminal(busy) as shown:
        text = await shown.shows("live", "Parked", ID)

    assert "needs you" not in text
    assert {"GET /v1/live", "GET /v1/requests"} == {name for name, _ in busy.script.asked}


async def test_a_refused_key_ends_it(busy: Busy) -> None:
    """A gateway that refuses the caller will not change its mind: the application ends with the reason."""
    busy.script.answers["GET /v1/live"] = 401
    async with terminal(busy) as shown:
        await eventually(lambda: shown.app.return_value is not None)

    assert "of this" in str(shown.app.return_value)


async def test_help_and_the_end(busy: Busy) -> None:
    """A question mark shows the keys, q closes them and then the application."""
    async with terminal(busy) as shown:
        await shown.shows("live")
        await shown.press("question_mark")
        await shown.shows("freeze what is shown")
        await shown.press("q")
        await shown.shows("live")
        await shown.press("q")
        await eventually(lambda: shown.app._exit)

    assert shown.app.return_value is None


async def test_without_colour(busy: Busy, monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR every colour is a grey, and what is alarming is still marked."""
    monkeypatch.setenv("NO_COLOR", "1")
    async with terminal(busy) as shown:
        await shown.shows("live", "✗ 20 % of the requests")
        strips = shown.app.screen._compositor.render_strips()
        styles = [segment.style for strip in strips for segment in strip if segment.style]
        found = {colour for style in styles for colour in (style.color, style.bgcolor) if colour}

    assert [colour for colour in found if len({*colour.get_truecolor()}) > 1] == []
