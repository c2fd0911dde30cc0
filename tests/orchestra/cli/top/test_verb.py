"""`orchestra top --once` and `--json` against a gateway that follows a script."""

import json

from tests.support.operating import FRAME, ID, MODEL, OTHER, OWN_FRAME, QUEUE, STATS, TOPICS, WORKERS, Busy


async def test_one_frame_is_printed(busy: Busy) -> None:
    """What needs someone, numbers, workers and requests fit 80 columns; without a terminal this is the default, too."""
    once = await busy.script.orchestra("top", "--once")
    busy.show(FRAME)
    piped = await busy.script.orchestra("top")

    expected = [
        "What needs you", "✗ 20 % of the requests that ended since 12:00:00Z failed: 10 of 50.", "Waiting", "500+",
        "3/min", "of 1,000 slots", f"{MODEL[:19]}… ", "999/1000", f"{ID} failed", f"{OTHER} pending     7", "m[2Jevil",
    ]  # fmt: skip
    assert (0, "") == (once.status, once.stderr)
    assert [text for text in expected if text not in once.output] == []
    assert max(map(len, once.output.splitlines())) <= 80
    assert "\x1b" not in once.output
    assert once.output == piped.output


async def test_one_frame_as_json_has_all_of_it(busy: Busy) -> None:
    """A program gets the findings, and what the gateway answered to each call."""
    found = json.loads((await busy.script.orchestra("top", "--json")).output)

    kinds = [each.pop("kind") for each in found["findings"]]
    assert ["bad", "warn", "warn", "warn", "warn"] == kinds
    assert (FRAME, QUEUE, WORKERS) == (found["frame"], found["queue"], found["workers"])
    assert (TOPICS, STATS, [ID, OTHER]) == (found["topics"], found["stats"], [row["id"] for row in found["requests"]])


async def test_a_user_gets_his_own_frame(busy: Busy) -> None:
    """Without the scope `operate` there are one's own numbers and requests, and the rest is null."""
    busy.frames.get_nowait()
    busy.show(OWN_FRAME)
    busy.rows.clear()
    shown = await busy.script.orchestra("top", "--once")
    busy.show(OWN_FRAME)
    found = json.loads((await busy.script.orchestra("top", "--json")).output)

    assert "Parked" in shown.output
    assert "There is no request." in shown.output
    assert (OWN_FRAME, None, []) == (found["frame"], found["queue"], found["requests"])


async def test_a_gateway_that_is_away_is_the_error(busy: Busy) -> None:
    """One frame is not waited for: exit code 1, and the reason in one line."""
    busy.script.answers["GET /v1/live"] = 503

    done = await busy.script.orchestra("top", "--once")

    assert (1, "", 1) == (done.status, done.output, done.stderr.count("\n"))
