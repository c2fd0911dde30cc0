"""Promises of schemas/content.py: what messages may consist of, and how what they may not is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.api.messages import MessageReply, PostMessage
from schemas.content import calls_in, file_ids_in, refusal_in, refuse_web_urls
from schemas.envelope import parse_json
from schemas.errors import ErrorCode, OrchestraError
from schemas.generation import GenerateReply
from schemas.requests import MessageRequested, ReferredMessage, read_record
from tests.support.bodies import any_json

HELLO = {"role": "user", "content": "hi"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
FILE = {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA==", "filename": "a.pdf"}}
FILE_ID = "file-019ac0de7b1f0c526d4e8a309c112f8e"
UPLOADED_IMAGE = {"type": "image_url", "image_url": {"file_id": FILE_ID, "detail": "low"}}
UPLOADED = {"type": "file", "file": {"file_id": FILE_ID}}
TEXT = {"type": "text", "text": "What is this?"}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True}}
SECRET = "zq-secret-zq"


def has(part: dict[str, Any]) -> dict[str, Any]:
    """A message of this part."""
    return {"role": "user", "content": [part]}


def refusal(*messages: Any, **options: Any) -> OrchestraError:
    """Why a body is refused."""
    with pytest.raises(OrchestraError) as caught:
        read_record(None, {"messages": list(messages) or [HELLO], **options})
    return caught.value


@pytest.mark.parametrize(
    "body",
    [
        {"messages": [{"role": "developer", "content": "Be brief."}, HELLO]},
        {"messages": [{"role": "user", "name": "ada", "content": [TEXT, IMAGE, AUDIO, FILE]}]},
        {"messages": [{"role": "user", "content": [UPLOADED_IMAGE, UPLOADED]}]},
        {"messages": [HELLO, {"role": "assistant", "content": None, "tool_calls": [CALL]},
                      {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]},
        {"messages": [HELLO, {"role": "assistant", "content": [TEXT], "refusal": "No."},
                      {"role": "tool", "tool_call_id": "call_1", "content": [TEXT]}, HELLO]},
        {"messages": [HELLO], "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "weather"}},
         "parallel_tool_calls": False},
        {"messages": [HELLO], "response_format": SCHEMA, "seed": -1, "frequency_penalty": 2, "presence_penalty": -2,
         "reasoning_effort": "high", "reasoning": "include", "user": "ada", "max_tokens": 5},
        {"messages": [HELLO], "response_format": {"type": "json_object"}},
    ],
)  # fmt: skip
def test_what_chat_clients_send_is_kept_whole(body: dict[str, Any]) -> None:
    """A body in the shapes of OpenAI's chat API is read, and its canonical form has all of it."""
    read = MessageRequested.model_validate(body)

    assert body == json.loads(read.canonical()) | {"messages": [
        each if "content" in each else {**each, "content": None} for each in json.loads(read.canonical())["messages"]
    ]}  # fmt: skip
    assert read.body_hash() == PostMessage.model_validate(body).body_hash()


@pytest.mark.parametrize(
    ("part", "detail"),
    [
        ({"type": "image_url", "image_url": {"url": f"ftp://{SECRET}/a.png"}},
         "messages.0.content.1.image_url.url: must be a data: URL; others are not fetched"),
        ({"type": "file", "file": {"file_data": SECRET}},
         "messages.0.content.1.file.file_data: must be a data: URL; others are not fetched"),
        ({"type": "image_url", "image_url": {"url": f"https://{SECRET}/a b"}},
         "messages.0.content.1.image_url.url: must be a data: URL; others are not fetched"),
        ({"type": SECRET, SECRET: SECRET}, "messages.0.content.1: this type is not supported"),
        ({"type": "video_url", "video_url": {"url": "data:,"}}, "messages.0.content.1: this type is not supported"),
    ],
)  # fmt: skip
def test_a_part_that_is_not_supported_is_named(part: dict[str, Any], detail: str) -> None:
    """Its place is in the detail, as a caller would write it, and nothing of its value."""
    error = refusal({"role": "user", "content": [TEXT, part]})

    assert (ErrorCode.UNSUPPORTED_PART, detail) == (error.code, error.detail)


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"tools": [{"type": SECRET}]}, "tools.0.type: "),
        ({"tools": [{"type": "web_search", "function": {"name": "x"}}]}, "tools.0.type: "),
        ({"tools": [TOOL], "tool_choice": SECRET}, "tool_choice: "),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice.type: "),
        ({"response_format": {"type": "grammar", "grammar": SECRET}}, "response_format: this type is not supported"),
        ({"reasoning": {"effort": SECRET}}, "reasoning: "),
        ({"reasoning_effort": SECRET}, "reasoning_effort: "),
    ],
)
def test_an_option_that_is_not_supported_is_named(options: dict[str, Any], detail: str) -> None:
    """A value that other APIs have, or may have one day, is refused by the option's name."""
    error = refusal(**options)

    assert ErrorCode.UNSUPPORTED_OPTION == error.code
    assert error.detail.startswith(detail)
    assert SECRET not in error.detail


@pytest.mark.parametrize(
    ("message", "detail"),
    [
        ({"role": "user"}, "messages.0.content: is required"),
        ({"role": "assistant", "tool_calls": []}, "messages.0.content: is required"),
        ({"role": "user", "content": []}, "messages.0.content: "),
        ({"role": "user", "content": [{"type": "text"}]}, "messages.0.content.0.text: is required"),
        ({"role": "user", "content": [{"text": "hi"}]}, "messages.0.content.0: "),
        ({"role": "user", "content": [7]}, "messages.0.content.0: "),
        ({"role": "user", "content": 7}, "messages.0.content: "),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "W A V"}}]},
         "messages.0.content.0.input_audio.format: "),
        (has({"type": "file", "file": {"file_id": SECRET}}), "messages.0.content.0.file.file_id: "),
        (has({"type": "image_url", "image_url": {"file_id": 7}}), "messages.0.content.0.image_url.file_id: "),
        (has({"type": "image_url", "image_url": {"file_id": FILE_ID, "url": "data:,"}}),
         "messages.0.content.0.image_url.file_id: give either file_id or url"),
        (has({"type": "file", "file": {"file_id": FILE_ID, "file_data": "data:,"}}),
         "messages.0.content.0.file.file_id: give either file_id or file_data"),
        (has({"type": "file", "file": {}}), "messages.0.content.0.file.file_data: is required"),
        ({**HELLO, "tool_calls": [CALL]}, "messages.0.role: only an assistant message"),
        ({**HELLO, "refusal": "No."}, "messages.0.role: only an assistant message"),
        ({**HELLO, "tool_call_id": "call_1"}, "messages.0.tool_call_id: "),
        ({"role": "tool", "content": "4"}, "messages.0.tool_call_id: "),
        ({"role": "tool", "tool_call_id": "", "content": "4"}, "messages.0.tool_call_id: "),
        ({"role": "tool", "tool_call_id": "a\u202eb", "content": "4"}, "messages.0.tool_call_id: "),
        ({"role": "assistant", "tool_calls": [{**CALL, "type": "x"}]}, "messages.0.tool_calls.0.type: "),
        ({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f"}}]},
         "messages.0.tool_calls.0.function.arguments: is required"),
        ({"role": "assistant", "tool_calls": [CALL] * 129}, "messages.0.tool_calls: "),
        ({**HELLO, "name": "x" * 65}, "messages.0.name: "),
    ],
)  # fmt: skip
def test_a_message_that_makes_no_sense_is_refused_with_its_place(message: dict[str, Any], detail: str) -> None:
    """The place is that of the field, with the names of the body."""
    error = refusal(message)

    assert ErrorCode.INVALID_REQUEST == error.code
    assert error.detail.startswith(detail)


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools.0.function.name: "),
        ({"tools": [TOOL] * 129}, "tools: "),
        ({"tool_choice": "required"}, "tool_choice: there are no tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice: names a"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
         "response_format.json_schema.schema: is required"),
        ({"max_tokens": 1, "max_completion_tokens": 2}, "max_completion_tokens: another name of max_tokens"),
        ({"seed": 2**63}, "seed: "),
        ({"frequency_penalty": 2.1}, "frequency_penalty: "),
        ({"user": "x" * 513}, "user: "),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused_with_their_place(options: dict[str, Any], detail: str) -> None:
    """The place is that of the field, with the names of the body."""
    error = refusal(**options)

    assert ErrorCode.INVALID_REQUEST == error.code
    assert error.detail.startswith(detail)


def test_only_a_user_sends_media() -> None:
    """Other roles have texts in their parts."""
    for role in ("system", "developer", "assistant"):
        assert ErrorCode.UNSUPPORTED_PART == refusal({"role": role, "content": [TEXT, IMAGE]}).code
    assert ErrorCode.UNSUPPORTED_PART == refusal({"role": "tool", "tool_call_id": "c", "content": [IMAGE]}).code


@pytest.mark.parametrize("bad", ["\\u0000", "\\ud800"])
@pytest.mark.parametrize(
    ("message", "options", "where"),
    [
        ({"role": "user", "content": [{"type": "text", "text": "{}"}]}, {}, "messages.0.content.0.text"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:{}"}}]}, {},
         "messages.0.content.0.image_url.url"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_data": "data:,", "filename": "{}"}}]}, {},
         "messages.0.content.0.file.filename"),
        ({"role": "user", "content": "x", "name": "{}"}, {}, "messages.0.name"),
        ({"role": "assistant", "refusal": "{}"}, {}, "messages.0.refusal"),
        ({"role": "assistant", "tool_calls": [{**CALL, "id": "{}"}]}, {}, "messages.0.tool_calls.0.id"),
        ({"role": "assistant", "tool_calls": [{**CALL, "function": {"name": "f", "arguments": "{}"}}]}, {},
         "messages.0.tool_calls.0.function.arguments"),
        (HELLO, {"user": "{}"}, "user"),
        (HELLO, {"tools": [{"type": "function", "function": {"name": "f", "description": "{}"}}]},
         "tools.0.function.description"),
        (HELLO, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"a": [{"{}": 1}]}}}]},
         "tools.0.function.parameters"),
        (HELLO, {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": "{}"}}}},
         "response_format.json_schema.schema"),
    ],
)  # fmt: skip
def test_text_that_cannot_be_kept_is_refused_wherever_it_is(
    message: dict[str, Any], options: dict[str, Any], where: str, bad: str
) -> None:
    """U+0000 and lone surrogates are refused in every text of a body, with the field that has them."""
    raw = json.dumps({"messages": [message], **options}).replace("{}", bad)

    with pytest.raises(OrchestraError) as caught:
        read_record(None, parse_json(raw.encode()))

    assert ErrorCode.INVALID_REQUEST == caught.value.code
    assert caught.value.detail.startswith(f"{where}: ")


@pytest.mark.parametrize("number", ["1" + 309 * "0", str(2**64), str(-(2**63) - 1), "1e999", "-1e999"])
def test_a_number_that_cannot_be_kept_is_refused(number: str) -> None:
    """Schemas have only numbers that every part of the system reads as the same number."""
    parameters = {"type": "object", "properties": {"a": {"maximum": json.loads(number)}}}
    answer = {"type": "json_schema", "json_schema": {"name": "f", "schema": parameters}}
    offered = {"type": "function", "function": {"name": "f", "parameters": parameters}}

    assert ErrorCode.INVALID_REQUEST is refusal(tools=[offered]).code
    assert ErrorCode.INVALID_REQUEST is refusal(response_format=answer).code


def test_a_schema_has_a_depth() -> None:
    """JSON of more than 100 levels is refused before anything walks it by recursion."""
    deep: dict[str, Any] = {}
    for _ in range(101):
        deep = {"a": deep}

    error = refusal(tools=[{"type": "function", "function": {"name": "f", "parameters": deep}}])

    assert "tools.0.function.parameters: must not have more than 100 levels" == error.detail


@given(
    st.dictionaries(
        st.sampled_from("tools tool_choice response_format seed user reasoning parallel_tool_calls".split()), any_json()
    ),
    st.dictionaries(st.sampled_from("content tool_calls tool_call_id refusal name".split()), any_json()),
    st.sampled_from(["user", "assistant", "tool", "developer"]),
)
def test_whatever_is_sent_is_read_or_refused(options: dict[str, Any], message: dict[str, Any], role: str) -> None:
    """Any JSON in the place of a field of chat messages is read, or refused with a text that can be sent."""
    try:
        record = read_record(None, {"messages": [{"role": role, **message}], **options})
    except OrchestraError as error:
        error.detail.encode()
        assert error.code in {
            ErrorCode.INVALID_REQUEST, ErrorCode.UNSUPPORTED_PART, ErrorCode.UNSUPPORTED_OPTION,
        }  # fmt: skip
    else:
        assert isinstance(record, MessageRequested)
        assert record.canonical() == MessageRequested.model_validate_json(record.canonical()).canonical()


OUTPUT = [
    {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm"}]},
    {"type": "message", "role": "assistant", "content": [
        {"type": "output_text", "text": "I look."}, {"type": "refusal", "refusal": "No."}]},
    {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'},
]  # fmt: skip


def test_items_of_an_answer_become_a_message() -> None:
    """The calls and the refusal of an answer are what the next request sends back."""
    assert ([CALL], "No.") == (calls_in(OUTPUT), refusal_in(OUTPUT))
    assert ([], None) == (calls_in(OUTPUT[:1]), refusal_in(OUTPUT[2:]))


def test_output_is_absent_when_there_is_none() -> None:
    """An answer that is one text is what release 0.1.0 wrote."""
    fields = {"conversation_id": None, "reply": "hi", "request_id": None, "model": "m", "usage": None}
    plain = MessageReply.model_construct(**fields, metadata=None)  # type: ignore[arg-type]

    assert '"output"' not in plain.model_dump_json()
    assert '"output"' not in GenerateReply.model_validate({"content": "hi", "usage": {}}).model_dump_json()
    reply = GenerateReply.model_validate({"content": "", "usage": {}, "output": OUTPUT})
    assert OUTPUT == reply.model_dump()["output"]


def test_the_files_that_messages_name() -> None:
    """In order, as often as they are named; data in the body name none."""
    read = MessageRequested.model_validate({"messages": [HELLO, has(IMAGE), has(UPLOADED), has(UPLOADED_IMAGE)]})

    assert [FILE_ID, FILE_ID] == file_ids_in(read.messages)
    assert [] == file_ids_in(read.messages[:2])


@pytest.mark.parametrize(
    ("part", "place"),
    [
        ({"type": "image_url", "image_url": {"url": f"https://{SECRET}/a.png"}}, "image_url.url"),
        ({"type": "file", "file": {"file_data": f"HTTP://{SECRET}/a.pdf"}}, "file.file_data"),
    ],
)
def test_urls_of_others_are_read_and_can_be_refused(part: dict[str, Any], place: str) -> None:
    """A URL that would have to be fetched is kept as it is; where it is not allowed, its place is named."""
    read = MessageRequested.model_validate({"messages": [HELLO, {"role": "user", "content": [TEXT, part]}]})

    assert [TEXT, part] == read.messages[1].content
    with pytest.raises(OrchestraError) as refused:
        refuse_web_urls(read.messages)
    detail = f"messages.1.content.1.{place}: must be a data: URL; others are not fetched"
    assert (ErrorCode.UNSUPPORTED_PART, detail) == (refused.value.code, refused.value.detail)


@pytest.mark.parametrize("part", [IMAGE, AUDIO, FILE, UPLOADED_IMAGE, UPLOADED, TEXT])
def test_nothing_else_is_refused_with_them(part: dict[str, Any]) -> None:
    """Data and ids need no fetching."""
    read = MessageRequested.model_validate({"messages": [HELLO, {"role": "user", "content": [part]}]})

    refuse_web_urls(read.messages)


def test_a_recording_can_be_named() -> None:
    """An uploaded recording has an id and a format; its data and an id exclude each other."""
    named = {"type": "input_audio", "input_audio": {"file_id": FILE_ID, "format": "wav"}}
    read = MessageRequested.model_validate({"messages": [has(named)]})

    assert [named] == read.messages[0].content
    assert [FILE_ID] == file_ids_in(read.messages)
    error = refusal(has({"type": "input_audio", "input_audio": {"file_id": FILE_ID, "data": "AA==", "format": "wav"}}))
    assert "messages.0.content.0.input_audio.file_id: give either file_id or data" == error.detail


REF = {"file_id": FILE_ID, "sha256": "a" * 64, "bytes": 3, "body_hash": "b" * 64}


def test_a_body_by_reference_has_the_hash_of_the_whole() -> None:
    """Its record has no messages, and is compared by the hash of the body that has them."""
    read = read_record(None, {"model": "m", "body_ref": REF})

    assert isinstance(read, ReferredMessage)
    assert "b" * 64 == read.body_hash()
    assert {"model": "m", "body_ref": REF} == read.model_dump(mode="json", exclude_none=True)


@pytest.mark.parametrize(
    "wrong", [{"messages": [HELLO]}, {"body_ref": {**REF, "sha256": "x"}}, {"body_ref": {**REF, "bytes": 0}}], ids=str
)
def test_a_body_by_reference_is_complete_and_alone(wrong: dict[str, Any]) -> None:
    """Messages beside it would be ignored, so they are refused, and so is a reference that is not one."""
    with pytest.raises(OrchestraError) as refused:
        read_record(None, {"body_ref": REF, **wrong})

    assert ErrorCode.INVALID_REQUEST == refused.value.code
