"""`orchestra conversations` against a gateway that follows a script."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from tests.support.command_line import Done, orchestra
from tests.support.ports import free_port

ID, OTHER = "0b8e1c5a-1111-4111-8111-000000000001", "0b8e1c5a-1111-4111-8111-000000000002"
CONVERSATION = {"id": ID, "created_at": "2026-01-31T12:00:00Z", "metadata": {"topic": "owls"}, "open_requests": []}
BRANCH = {**CONVERSATION, "id": OTHER, "branch_of": ID}
MESSAGE = {"id": 17, "role": "user", "content": "hi"}


@dataclass
class Script:
    """What was asked, and what is answered by method and path below /v1/conversations."""

    url: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    async def answer(self, call: web.Request) -> web.StreamResponse:
        """Answer one call; a list gives its items in turn, None is an empty answer, a text a problem of that code."""
        name = f"{call.method} {call.path.removeprefix('/v1/conversations')}"
        self.asked.append((name, await call.json() if call.can_read_body else dict(call.query)))
        found = self.answers.get(name, "not_found")
        found = found.pop(0) if isinstance(found, list) else found
        if isinstance(found, str):
            return web.json_response({"code": found, "detail": "because"}, status=404)
        return web.Response(status=204) if found is None else web.json_response(found)

    async def orchestra(self, *words: str, **more: Any) -> Done:
        """Run the command against this gateway."""
        env = {"ORCHESTRA_GATEWAY": self.url, "ORCHESTRA_API_KEY": "orc_a_b", "TZ": "UTC"}
        return await orchestra("conversations", *words, **env, **more)


@pytest.fixture
async def script() -> AsyncIterator[Script]:
    made, app = Script(), web.Application()
    app.router.add_route("*", "/{tail:.*}", made.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    made.url = f"http://127.0.0.1:{port}"
    yield made
    await runner.cleanup()


async def test_a_list_follows_pages_up_to_the_limit(script: Script) -> None:
    """Branches name their parent; with --json the conversations come out as they are."""
    pages = [{"data": [CONVERSATION], "next": "more"}, {"data": [BRANCH], "next": "more"}]
    script.answers["GET "] = [*pages, *pages]

    shown = await script.orchestra("list", "--limit", "2")
    listed = await script.orchestra("list", "--limit", "2", "--json")

    assert all(text in shown.output for text in (ID, OTHER, f"branch of {ID}", "2026-01-31 12:00", "topic: owls"))
    assert [CONVERSATION, BRANCH] == json.loads(listed.output)
    assert [("GET ", {"limit": "2"}), ("GET ", {"cursor": "more", "limit": "1"})] * 2 == script.asked


async def test_a_conversation_is_shown_with_the_ids_of_its_messages(script: Script) -> None:
    """An id is what --after-message takes."""
    script.answers = {f"GET /{ID}": CONVERSATION, f"GET /{ID}/messages": {"data": [MESSAGE], "next": None}}

    shown = await script.orchestra("show", ID)
    whole = await script.orchestra("show", ID, "--json")

    assert "[17] user: hi" in shown.output
    assert {**CONVERSATION, "messages": [MESSAGE]} == json.loads(whole.output)


async def test_branch_and_copy_print_the_new_id_alone(script: Script) -> None:
    """What is not given is not sent."""
    script.answers = {f"POST /{ID}/branch": BRANCH, f"POST /{ID}/copy": BRANCH}

    done = [
        await script.orchestra("branch", ID, "--after-message", "17"),
        await script.orchestra("branch", ID, "--after-request", OTHER, "--id", OTHER),
        await script.orchestra("copy", ID, "--metadata", "a=b", "--metadata", "c=d=e"),
    ]

    assert [(0, f"{OTHER}\n")] * 3 == [(each.status, each.output) for each in done]
    assert [
        (f"POST /{ID}/branch", {"after_message": 17}),
        (f"POST /{ID}/branch", {"after_request": OTHER, "id": OTHER}),
        (f"POST /{ID}/copy", {"metadata": {"a": "b", "c": "d=e"}}),
    ] == script.asked


async def test_what_fails_is_explained(script: Script) -> None:
    """Exit code 1 and the gateway's reason; the other conversations are deleted all the same."""
    script.answers[f"DELETE /{OTHER}"] = None

    branch = await script.orchestra("branch", ID)
    metadata = await script.orchestra("copy", ID, "--metadata", "a")
    deleted = await script.orchestra("delete", ID, OTHER)

    assert (1, True) == (branch.status, "not_found: because" in branch.stderr)
    assert (1, True) == (metadata.status, "NAME=VALUE" in metadata.stderr)
    assert (1, True) == (deleted.status, "1 deleted, 1 not" in deleted.stderr)
