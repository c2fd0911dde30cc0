"""`orchestra requests cancel`, `retry` and `change` against a gateway that follows a script."""

import json
from typing import Any
from uuid import uuid4

import pytest

from tests.support.operating import told
from tests.support.scripted_gateway import ScriptedGateway


@pytest.fixture
def script(script: ScriptedGateway) -> ScriptedGateway:
    return script.of("requests", root="/v1/requests")


def bodies(script: ScriptedGateway) -> list[Any]:
    return [body for _, body in script.asked]


async def test_counts_then_acts_to_the_end(script: ScriptedGateway) -> None:
    """A dry run comes first; both follow the cursor, and what is left alone is said by reason."""
    script.answers["POST /cancel"] = [told(2, "c"), told(1, ended=1), told(2, "d"), told(0, ended=1, cancelling=1)]

    done = await script.orchestra("cancel", "--status", "pending", "--conversation-id", "x")

    filter = {"status": "pending", "conversation_id": "x"}
    assert [
        ("POST /cancel", {"filter": filter, "dry_run": True}),
        ("POST /cancel", {"filter": filter, "dry_run": True, "cursor": "c"}),
        ("POST /cancel", {"filter": filter, "dry_run": False}),
        ("POST /cancel", {"filter": filter, "dry_run": False, "cursor": "d"}),
    ] == script.asked
    assert (0, "2 cancelled; 2 not: cancelling 1, ended 1\n") == (done.status, done.output)
    assert "4 requests of all owners, 3 would be cancelled; 1 not: ended 1" in done.stderr


async def test_a_dry_run_changes_nothing(script: ScriptedGateway) -> None:
    """It is one count, and no failure though some would be left alone."""
    script.answers["POST /retry"] = told(3, retried=2)

    done = await script.orchestra("retry", "--created-after", "2026-01-01", "--dry-run", "--json")

    counts = {"matched": 5, "done": 3, "skipped": {"retried": 2}}
    assert (0, {"scope": "tenant", **counts}) == (done.status, json.loads(done.output))
    assert [{"filter": {"created_after": "2026-01-01"}, "dry_run": True}] == bodies(script)


@pytest.mark.parametrize(
    ("scope", "whose"),
    [("own", " of your own"), ("tenant", " of all owners"), (None, "")],
    ids=["own", "tenant", "older"],
)
async def test_a_dry_run_says_whose_requests_it_counts(script: ScriptedGateway, scope: str | None, whose: str) -> None:
    """A filter may select those of all owners; a gateway of an older release does not say."""
    script.answers["POST /cancel"] = {**told(3, ended=1), "scope": scope}

    done = await script.orchestra("cancel", "--status", "pending", "--dry-run")

    assert (0, f"4 requests{whose}, 3 would be cancelled; 1 not: ended 1\n") == (done.status, done.output)


async def test_a_change_says_what_to_set(script: ScriptedGateway) -> None:
    """Only what is named is sent; `default` is null, and a lowered priority is reported."""
    ids = [str(uuid4()) for _ in range(2)]
    script.answers["POST /change"] = [told(2), {**told(2), "warnings": ["priority"]}]

    done = await script.orchestra("change", *ids, "--priority", "9", "--not-before", "default", "--yes")

    body = {"ids": ids, "change": {"priority": 9, "not_before": None}}
    assert [{**body, "dry_run": True}, {**body, "dry_run": False}] == bodies(script)
    assert (0, "2 changed\n") == (done.status, done.output)
    assert "lowered" in done.stderr


async def test_many_ids_are_many_calls(script: ScriptedGateway) -> None:
    """A call has at most as many ids as the gateway takes."""
    script.answers["POST /retry"] = [told(1000), told(1), told(1000), told(1)]

    done = await script.orchestra("retry", *(str(uuid4()) for _ in range(1001)))

    assert ([1000, 1] * 2, "1001 retried\n") == ([len(body["ids"]) for body in bodies(script)], done.output)


@pytest.mark.parametrize(
    ("verb", "already", "failed"),
    [
        ("cancel", ("ended", "cancelling"), "not_found"),
        ("retry", ("retried", "is_retry"), "not_kept"),
        ("change", ("unchanged",), "in_progress"),
    ],
)
async def test_a_repeated_command_has_nothing_to_do(
    script: ScriptedGateway, verb: str, already: tuple[str, ...], failed: str
) -> None:
    """Exit code 0 if all that was left alone is as the command would have it, 1 if one could not be done."""
    command = (verb, "--status", "failed", *(("--priority", "1") if verb == "change" else ()))
    counts = dict.fromkeys(already, 2)

    script.answers[f"POST /{verb}"] = told(0, **counts)
    repeated = await script.orchestra(*command)
    script.answers[f"POST /{verb}"] = told(3, **counts, **{failed: 1})
    partly = await script.orchestra(*command)

    assert (0, 1) == (repeated.status, partly.status), (repeated, partly)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cancel"], "such as --status"),
        (["cancel", str(uuid4()), "--status", "failed"], "not both"),
        (["retry", "7"], "UUID"),
        (["change", str(uuid4())], "--priority"),
    ],
    ids=["neither", "both", "no id", "no change"],
)
async def test_a_command_that_names_nothing_is_wrong(script: ScriptedGateway, words: list[str], said: str) -> None:
    """Ids or filters, one of them, and for a change something to set."""
    refused = await script.orchestra(*words)

    assert 2 == refused.status
    assert said in refused.stderr
    assert [] == script.asked


async def test_a_refusal_is_shown(script: ScriptedGateway) -> None:
    """The gateway's reason, and the exit code of a failure."""
    script.answers["POST /cancel"] = "invalid_request"

    done = await script.orchestra("cancel", "--status", "nonsense")

    assert (1, "invalid_request: because\n") == (done.status, done.stderr)
