"""`orchestra conversations` against a gateway that follows a script."""

import json

import pytest

from tests.support.scripted_gateway import ScriptedGateway

ID, OTHER = "0b8e1c5a-1111-4111-8111-000000000001", "0b8e1c5a-1111-4111-8111-000000000002"
CONVERSATION = {"id": ID, "created_at": "2026-01-31T12:00:00Z", "metadata": {"topic": "owls"}, "open_requests": []}
BRANCH = {**CONVERSATION, "id": OTHER, "branch_of": ID}
MESSAGE = {
    "id": 17, "role": "user", "content": "hi", "created_at": "2026-01-31T12:00:00Z", "request_id": OTHER,
    "finish_reason": None,
}  # fmt: skip


@pytest.fixture
def script(script: ScriptedGateway) -> ScriptedGateway:
    return script.of("conversations", root="/v1/conversations")


async def test_a_list_follows_pages_up_to_the_limit(script: ScriptedGateway) -> None:
    """Branches name their parent; with --json the conversations come out as they are."""
    pages = [{"data": [CONVERSATION], "next": "more"}, {"data": [BRANCH], "next": "more"}]
    script.answers["GET "] = [*pages, *pages]

    shown = await script.orchestra("list", "--limit", "2")
    listed = await script.orchestra("list", "--limit", "2", "--json")

    assert all(text in shown.output for text in (ID, OTHER, f"branch of {ID}", "2026-01-31 12:00", "topic: owls"))
    assert [CONVERSATION, BRANCH] == json.loads(listed.output)
    assert [("GET ", {"limit": "2"}), ("GET ", {"cursor": "more", "limit": "2"})] * 2 == script.asked


async def test_a_conversation_is_shown_with_the_ids_of_its_messages(script: ScriptedGateway) -> None:
    """An id is what --after-message takes."""
    script.answers = {f"GET /{ID}": CONVERSATION, f"GET /{ID}/messages": {"data": [MESSAGE], "next": None}}

    shown = await script.orchestra("show", ID)
    whole = await script.orchestra("show", ID, "--json")

    assert "[17] user: hi" in shown.output
    assert {**CONVERSATION, "messages": [MESSAGE]} == json.loads(whole.output)


async def test_branch_and_copy_print_the_new_id_alone(script: ScriptedGateway) -> None:
    """What is not given is not sent, but for the id of the new one."""
    script.answers = {f"POST /{ID}/branch": BRANCH, f"POST /{ID}/copy": BRANCH}

    done = [
        await script.orchestra("branch", ID, "--after-message", "17"),
        await script.orchestra("branch", ID, "--after-request", OTHER, "--id", OTHER),
        await script.orchestra("copy", ID, "--metadata", "a=b", "--metadata", "c=d=e"),
    ]

    assert [(0, f"{OTHER}\n")] * 3 == [(each.status, each.output) for each in done]
    (_, first), (_, second), (_, third) = script.asked
    assert ({"id", "after_message"}, 17) == (first.keys(), first["after_message"])
    assert {"after_request": OTHER, "id": OTHER} == second
    assert ({"id", "metadata"}, {"a": "b", "c": "d=e"}) == (third.keys(), third["metadata"])


async def test_what_fails_is_explained(script: ScriptedGateway) -> None:
    """Exit code 1 and the gateway's reason, 2 for wrong usage; the other conversations are deleted all the same."""
    script.answers[f"DELETE /{OTHER}"] = None

    branch = await script.orchestra("branch", ID)
    metadata = await script.orchestra("copy", ID, "--metadata", "a")
    deleted = await script.orchestra("delete", ID, OTHER)

    assert (1, True) == (branch.status, "not_found: because" in branch.stderr)
    assert (2, True) == (metadata.status, "NAME=VALUE" in metadata.stderr)
    assert (1, True) == (deleted.status, "1 deleted, 1 not" in deleted.stderr)
