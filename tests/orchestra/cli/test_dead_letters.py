"""`orchestra dead-letters` against a gateway that follows a script."""

import base64
import json
from pathlib import Path

import pytest

from tests.support.scripted_gateway import ScriptedGateway

SUMMARY = {
    "id": 7, "request_id": "5a6d0c5e-4f8e-8d4e-9d0f-0d7d9b0c1a2b", "reason": "not_json", "detail": "is not JSON",
    "topic": "llm.requests", "partition": 3, "offset": 42, "timestamp_ms": 1, "value_bytes": 4,
    "created_at": "2026-01-31T12:00:00Z", "edited_at": None, "replayed_at": None, "replayed_as": None,
}  # fmt: skip
LETTER = {
    **SUMMARY, "key": None, "key_base64": "/w==", "value": "bad \x1b[2J\n", "value_base64": None,
    "headers": [{"name": "ce_id", "value": "4711", "value_base64": None}], "original": None,
    "obstacle": {"code": "not_json", "detail": "still bad"},
}  # fmt: skip


@pytest.fixture
def script(script: ScriptedGateway) -> ScriptedGateway:
    return script.of("dead-letters", root="/v1/dead-letters")


async def test_an_empty_list_says_so(script: ScriptedGateway) -> None:
    """Where there are none, or none like these, the list is a sentence and no empty table."""
    script.answers["GET "] = {"data": [], "next": None}

    told = [(await script.orchestra("list", *words)).output for words in ((), ("--reason", "not_json"))]

    assert ["no dead letters\n", "no such dead letters\n"] == told


async def test_a_list_is_a_table_of_as_many_pages_as_are_asked_for(script: ScriptedGateway) -> None:
    """Filters go along, pages are followed up to the limit, and the key is the one of the environment."""
    script.answers["GET "] = [{"data": [SUMMARY], "next": "c"}, {"data": [{**SUMMARY, "id": 8}], "next": "d"}]

    done = await script.orchestra(
        "list", "--reason", "not_json", "--after", "2026-01-01", "--not-replayed", "--limit", "2"
    )

    assert (0, "") == (done.status, done.stderr)
    assert all(
        text in done.output
        for text in ("│ 7 ", "│ 8 ", "not_json", "llm.requests/3/42", "kept 2026-01-31 12:00:00", "is not JSON")
    )
    asked = {"reason": "not_json", "created_after": "2026-01-01", "replayed": "false"}
    assert [("GET ", {**asked, "limit": "2"}), ("GET ", {**asked, "limit": "1", "cursor": "c"})] == script.asked
    assert {"Bearer orc_a_b"} == script.keys


async def test_a_list_gives_the_terminal_no_orders(script: ScriptedGateway) -> None:
    """Neither reasons nor topics nor details of a lying gateway reach a terminal as they are."""
    evil = {"reason": "x\x1b[2J", "topic": "y\x9b2J\u202e", "detail": "z\x1b]0;owned\x07"}
    script.answers["GET "] = {"data": [{**SUMMARY, **evil}], "next": None}
    shown = (await script.orchestra("list")).output

    assert [] == [each for each in "\x1b\x9b\x07\u202e" if each in shown]
    assert "owned" in shown


async def test_json_is_what_the_gateway_says(script: ScriptedGateway) -> None:
    """With --json a list and a letter come out as they are."""
    script.answers = {"GET ": {"data": [SUMMARY], "next": None}, "GET /7": LETTER}

    listed, shown = [await script.orchestra(*words, "--json") for words in (["list"], ["show", "7"])]

    assert [[SUMMARY], LETTER] == [json.loads(done.output) for done in (listed, shown)]


async def test_a_letter_is_shown_harmlessly(script: ScriptedGateway) -> None:
    """All of it is there, and what a terminal would obey is not."""
    script.answers["GET /7"] = LETTER

    done = await script.orchestra("show", "7")

    assert done.status == 0
    assert all(text in done.output for text in ("not_json: is not JSON", "ce_id: 4711", "base64 /w==", "still bad"))
    assert "\nbad \N{REPLACEMENT CHARACTER}[2J\n" in done.output


@pytest.mark.parametrize("source", ["-", "file"])
async def test_an_edit_from_a_file(script: ScriptedGateway, tmp_path: Path, source: str) -> None:
    """The bytes of a file or of stdin go as they are; headers are set and taken away by name."""
    (tmp_path / "value").write_bytes(b"\xff new")
    script.answers = {"GET /7": LETTER, "PUT /7": {**LETTER, "obstacle": None}}
    where = "-" if source == "-" else str(tmp_path / "value")

    done = await script.orchestra(
        "edit", "7", "--value", where, "--header", "ce_id=", "--header", "a=b=c", said=b"\xff new"
    )  # fmt: skip

    assert (0, "edited\n") == (done.status, done.stderr)
    value, headers = base64.b64encode(b"\xff new").decode(), [{"name": "a", "value": "b=c"}]
    assert ("PUT /7", {"value_base64": value, "headers": headers}) == script.asked[-1]


async def test_an_edit_in_an_editor(script: ScriptedGateway) -> None:
    """Without a file $EDITOR opens the value; an unchanged value, or an editor that fails, is reported."""
    script.answers = {"GET /7": LETTER, "PUT /7": LETTER}

    changed = await script.orchestra("edit", "7", EDITOR="sed -i s/bad/good/", VISUAL="")
    same = await script.orchestra("edit", "7", EDITOR="true", VISUAL="")
    failed = await script.orchestra("edit", "7", EDITOR="false", VISUAL="")
    missing = await script.orchestra("edit", "7", EDITOR="no-such-editor-here", VISUAL="")

    assert (0, True) == (changed.status, "would still be refused, not_json: still bad" in changed.stderr)
    assert [{"value": "good \x1b[2J\n"}] == [body for name, body in script.asked if name == "PUT /7"]
    for done, said in (
        (same, "no changes were made"),
        (failed, "false ended with 1"),
        (missing, "no-such-editor-here"),
    ):
        assert (1, "", 1) == (done.status, done.output, len(done.stderr.splitlines()))
        assert said in done.stderr


async def test_replay_by_number(script: ScriptedGateway) -> None:
    """Each named letter is tried; a refused one is reported, and the exit code shows that there was one."""
    script.answers = {"POST /7/replay": {**LETTER, "replayed_as": "x"}, "POST /8/replay": "not_replayable"}

    both = await script.orchestra("replay", "8", "7", "--json")
    one = await script.orchestra("replay", "7")

    assert (1, {"replayed": 1, "skipped": 1, "requests": {"7": "x"}}) == (both.status, json.loads(both.output))
    assert "letter 8: not_replayable: because\n" == both.stderr
    assert (0, "1 replayed, 0 not\n") == (one.status, one.output)


async def test_replay_by_filter(script: ScriptedGateway) -> None:
    """It goes on until all were looked at, and counts; repeated, it has nothing to do."""
    script.answers["POST /replay"] = [
        {"replayed": 500, "skipped": 0, "next": "c"}, {"replayed": 2, "skipped": 1, "next": None},
        {"replayed": 0, "skipped": 0, "next": None},
    ]  # fmt: skip

    done, again = [await script.orchestra("replay", "--topic", "t", "--before", "2026-01-01") for _ in range(2)]

    assert (1, "502 replayed, 1 not\n") == (done.status, done.output)
    assert (0, "0 replayed, 0 not\n") == (again.status, again.output)
    asked = {"topic": "t", "created_before": "2026-01-01"}
    assert [("POST /replay", asked), ("POST /replay", {**asked, "cursor": "c"})] == script.asked[:2]


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["replay"], 2, "give the numbers"),
        (["replay", "7", "--topic", "t"], 2, "give the numbers"),
        (["list", "--reason", "nonsense"], 2, "nonsense"),
        (["edit", "7", "--header", "nonsense"], 2, "NAME=VALUE"),
        (["show", "9"], 1, "not_found: because"),
        (["edit", "7", "--value", "/no/such/file"], 2, "No such file"),
        (["list", "--gateway", "http://127.0.0.1:9"], 1, "127.0.0.1:9"),
        (["list", "--gateway", "nonsense"], 2, "not a gateway address"),
        (["list", "--key", "ä"], 2, "printable ASCII"),
        (["show", "10"], 1, "not how a gateway answers"),
        (["replay", "--topic", "t"], 1, "not how a gateway answers"),
    ],
)
async def test_what_cannot_be(script: ScriptedGateway, words: list[str], status: int, said: str) -> None:
    """Each refusal says why, on stderr alone; 2 for what makes no sense, 1 for what could not be done."""
    script.answers |= {"GET /7": LETTER, "GET /10": [[]], "POST /replay": {}}

    done = await script.orchestra(*words)

    assert (status, "", True) == (done.status, done.output, said in done.stderr), done.stderr
    assert status == 2 or len(done.stderr.splitlines()) == 1
