"""Texts of strangers are text: whatever an answer of the API has in its fields, pages show it, and nothing runs."""

import itertools
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from addresses import ADDRESSES, PATHS, URL, address_of, name_of
from foreign import SAMPLES, fields_of
from looking import enter, leave, markup, unseen
from payloads import PAYLOADS
from strangers import Strangers

# One request that is open and one that has ended have all that the page of a request shows.
PAGES = [(path, sample) for path, sample in ADDRESSES if path != "/requests/{id}" or sample in {"running", "failed"}]
# The texts of answers that each page shows. A page that loses one is at fault.
SHOWN = {
    "/": """LiveFrame.held_models PauseResource.model PauseResource.reason TopicState.topic DepthOfModel.model
        NextRequest.model NextRequest.owner NextRequest.last_error StatsPoint.key""",
    "/requests": """ListedRequest.model ListedRequest.owner ListedRequest.task_type ListedRequest.reply
        RequestError.detail""",
    "/requests/{id}": """RequestDetail.model RequestDetail.owner RequestDetail.task_type RequestDetail.trace_id
        RequestDetail.reply RequestDetail.metadata.name RequestDetail.metadata.* Message.content TextPart.text
        CalledFunction.name CalledFunction.arguments RecordSource.topic AttemptError.detail
        delta:text restart:text restart:last_error.detail reasoning.delta:text refusal.delta:text tool_call:call_id
        tool_call:name tool_call.delta:arguments completed:reply""",
    "/conversations": """ConversationResource.beginning ConversationResource.metadata.name
        ConversationResource.metadata.*""",
    "/conversations/{id}": """ConversationResource.metadata.name ConversationResource.metadata.* ModelObject.id
        ListedRequest.model ListedRequest.reply RequestError.detail StoredMessage.role StoredMessage.content
        StoredMessage.tool_call_id Message.content Message.tool_call_id CalledFunction.name CalledFunction.arguments
        OutputText.text OutputRefusal.refusal ReasoningText.text FunctionCallItem.name FunctionCallItem.arguments
        TextPart.text ImageUrl.url InputFile.filename""",
    "/dead-letters": "DeadLetterSummary.detail DeadLetterSummary.topic",
    "/dead-letters/{id}": """DeadLetterResource.detail DeadLetterResource.topic DeadLetterResource.key
        LetterHeader.name LetterHeader.value RequestError.detail""",
    "/playground": "ModelObject.id",
    "/models": "ModelObject.id ModelObject.aliases ModelObject.fallbacks ModelObject.owned_by",
    "/agents": """AgentResource.name AgentResource.description AgentResource.model AgentResource.stop
        AgentResource.answer_schema.name AgentResource.answer_schema.*""",
    "/queue": """DepthOfModel.model HeldModel.model HeldModel.detail NextRequest.model NextRequest.owner
        NextRequest.last_error PauseResource.model PauseResource.reason PauseResource.paused_by TopicState.topic""",
    "/topics/{topic}/{partition}": "TopicRecord.key TopicRecord.value HeaderOfRecord.name HeaderOfRecord.value",
    "/workers": "ModelOfWorker.model ModelOfWorker.detail TopicOfWorker.topic WorkerResource.version",
    "/people": "UserResource.username ErasureResource.counts.name",
    "/keys": "KeyResource.id KeyResource.name UserResource.username",
    "/audit": """AuditEntry.actor AuditEntry.action AuditEntry.target AuditEntry.before.name AuditEntry.before.*
        AuditEntry.after.name AuditEntry.after.*""",
}
ALSO_SHOWN = {
    "running": "Reason.detail",
    "failed": "RequestError.detail",
    "letter": "DeadLetterResource.value_base64",
    "text_letter": "DeadLetterResource.value",
}
# What answers have besides: it is on no page, or behind a button of one.
HIDDEN = """AuditEntry.trace_id DepthOfBoth.model ErasureResource.topics_free_at.name FunctionCallItem.call_id
    InputAudio.data InputAudio.format InputFile.file_data LetterRecord.key LetterRecord.value Message.name
    Message.refusal ModelObject.description RecordList.topic ListedRequest.metadata.name ListedRequest.metadata.*
    SessionCaller.key_id SessionCaller.key_name SessionCaller.owner SessionCaller.tenant SessionResource.version
    ToolCall.id Usage.model"""
# Addresses: of one that has the data in it, a page tells the type and the size.
INLINE = {"ImageUrl.url"}
# What is to be open on a page. The record is the one that the stranger adds.
_OPENED = {"/topics/{topic}/{partition}": f"?record={SAMPLES['integer']}"}
# Pages that show, or ask for, what is in their address.
_OPEN = (
    "/requests?model={}&owner={}&task_type={}", "/requests/{}", "/conversations/{}", "/dead-letters?reason={}",
    "/topics/{}/0", "/queue?topic={}", "/playground?model={}", "/{}",
)  # fmt: skip
_FIELD = "correct horse battery staple"
_PRESS = """(index) => {
  const kinds = new Map();
  for (const each of document.querySelectorAll("main :is(button, summary):not(:disabled)")) {
    const text = each.textContent.trim().slice(0, 12) || (each.getAttribute("aria-label") ?? "").split(" ")[0];
    if (!kinds.has(text)) kinds.set(text, each);
  }
  [...kinds.values()][index]?.click();
  return index < kinds.size;
}"""
_SUBMIT = """async (text) => {
  const dialog = document.querySelector("dialog[open]");
  for (const each of dialog?.querySelectorAll("input:is([type=text], [type=password], :not([type])), textarea") ?? []) {
    each.value = text;
    each.dispatchEvent(new Event("input", { bubbles: true }));
  }
  dialog?.querySelector("[type=submit]:not(:disabled)")?.click();
  await fetch("/v1/session");  // Calls are answered in their order: what was asked has its answer, too.
}"""


@pytest.mark.parametrize(("path", "sample"), PAGES, ids=name_of)
def test_texts_stay_texts(path: str, sample: str, open_watched: Any, seen: dict[str, Any], document: Any) -> None:
    """A page shows each text of its answers, each payload once in each; it runs none, and fetches nothing for one."""
    watched = open_watched()
    strangers = Strangers(watched.page, document)
    address = address_of(path, sample, seen) + _OPENED.get(path, "")
    page = watched.open(address)
    shown = f"{SHOWN[path]} {ALSO_SHOWN.get(sample, '')}".split()
    for round in range(len(PAYLOADS)):
        leave(page)
        strangers.round = round
        enter(page, address)

        signs = {field: strangers.sign(field) for field in shown}
        inline = {field for field in INLINE & signs.keys() if signs[field].startswith("data:")}
        assert [] == unseen(page, {field: signs[field] for field in signs.keys() - inline})
        assert [] == markup(page)
    assert [] == watched.problems()


@pytest.mark.parametrize("refuses", [False, True], ids=["done", "refused"])
@pytest.mark.parametrize(("path", "sample"), PAGES, ids=name_of)
def test_texts_behind_buttons(
    path: str, sample: str, refuses: bool, open_watched: Any, seen: dict[str, Any], document: Any
) -> None:
    """What each button opens, and what is said after it was done or refused, runs no text either."""
    watched = open_watched(permissions=["clipboard-write"])
    watched.expected = {409}
    strangers = Strangers(watched.page, document)
    strangers.refuses = {"post", "put", "patch", "delete"} if refuses else set()
    address = address_of(path, sample, seen)
    page = watched.open(address)
    pressed = True
    while pressed:
        leave(page)
        enter(page, address)
        watched.settle()
        pressed = page.evaluate(_PRESS, strangers.round)
        page.evaluate(_SUBMIT, _FIELD)
        watched.settle()
        strangers.round += 1

        assert [] == markup(page)
    assert [] == watched.problems()


def test_the_name_of_a_caller_stays_a_text(open_watched: Any, document: Any) -> None:
    """The name of who signed in, of which the console asks once, is a text beside each page."""
    watched = open_watched()
    strangers = Strangers(watched.page, document)
    for round in range(len(PAYLOADS)):
        strangers.round = round
        page = watched.open("/nowhere")

        assert [] == unseen(page, {"SessionCaller.username": strangers.sign("SessionCaller.username")})
        assert [] == markup(page)
    assert [] == watched.problems()


def test_texts_of_refusals(open_watched: Any, seen: dict[str, Any], document: Any) -> None:
    """If all calls of a page are refused, it says so in the words of the refusal, which are text."""
    watched = open_watched()
    watched.expected = {409}
    strangers = Strangers(watched.page, document)
    page = watched.open("/nowhere")
    strangers.refuses = {"get", "post"}
    for round, (path, sample) in enumerate(itertools.chain.from_iterable([PAGES] * 4)):
        leave(page)
        strangers.round = round
        enter(page, address_of(path, sample, seen))

        assert [] == [f"{path}: {each}" for each in unseen(page, {"Problem.title": strangers.sign("Problem.title")})]
        assert [] == markup(page)
    assert [] == watched.problems()


def test_texts_of_addresses(open_watched: Any) -> None:
    """What is in the address of a page, as in a link that a stranger sent, is text."""
    watched = open_watched()
    watched.expected = {400, 404, 422}
    page = watched.open("")
    for address, payload in itertools.product(_OPEN, PAYLOADS):
        leave(page)
        enter(page, address.replace("{}", quote(payload, safe="")))
        watched.settle()

        assert [] == markup(page)
    assert [] == watched.problems()


def test_what_would_run_is_seen(open_watched: Any) -> None:
    """Where payloads are taken for markup, on a page without the console's policy, they run, and it is noticed."""
    watched = open_watched()
    page = watched.page
    body = f"<!doctype html>{PAYLOADS[0]}<svg>{''.join(each for each in PAYLOADS if each.startswith('<img'))}"
    page.route("**/console/markup", lambda route: route.fulfill(content_type="text/html", body=body))
    page.goto(f"{URL}/console/markup")

    assert "1" in watched.dialogs
    assert [each for each in watched.foreign if "stranger.example" in each]
    assert "<script>" in markup(page)[0]


def test_every_text_is_looked_at(document: Any) -> None:
    """Each text that a route of the console's can answer is shown by a page that is looked at, or known not to be."""
    calls = "\n".join(each.read_text("utf-8") for each in Path(os.environ["CONSOLE_FOLDER"]).rglob("*.js"))
    asked = set(re.findall(r'\bget\("(/[^"]+)"', calls))
    fields = set().union(*(fields_of(document, path, "get") for path in asked))

    assert set() == fields - set(
        " ".join([*SHOWN.values(), *ALSO_SHOWN.values(), HIDDEN, "SessionCaller.username"]).split()
    )
    assert PATHS == [*SHOWN]
