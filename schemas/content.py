"""What a message and an answer consist of: text, parts, tool calls, and the items of an answer.

Messages have the shapes of OpenAI's chat API ("Create chat completion"). Items of an answer have those of its
Responses API ("The response object"). They are dictionaries, because they are passed on as they came.
"""

import math
import operator
import re
import unicodedata
from collections.abc import Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Annotated, Any, Literal, LiteralString, NotRequired

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    StrictBool,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from schemas.errors import ErrorCode, OrchestraError
from schemas.invalid import MISSING
from schemas.json_schema import described

_SURROGATE = re.compile("[\ud800-\udfff]")
_FILE_ID = re.compile(r"file-[A-Za-z0-9]{1,64}")
_UNSEEN = frozenset({"Cc", "Cf", "Zl", "Zp"})
MAX_CALLS = 128
MAX_DEPTH = 100


def storable(text: str) -> str:
    """The text itself. Raises ``ValueError`` for U+0000 and lone surrogates, which Postgres and UTF-8 cannot keep."""
    if "\0" in text:
        raise ValueError("must not contain U+0000")
    if not text.isascii() and _SURROGATE.search(text):
        raise ValueError("must not contain lone surrogates")
    return text


def visible(text: str) -> str:
    """The text itself, a name for people to read. Raises ``ValueError`` for invisible characters, too.

    Those are control characters, line and paragraph separators, and format characters, which can hide or reorder the
    text around them.
    """
    if any(unicodedata.category(character) in _UNSEEN for character in storable(text)):
        raise ValueError("must not contain control or format characters")
    return text


def _check_number(number: float) -> None:
    # What cannot be read back from every JSON parser, or not as the same number.
    if isinstance(number, int):
        if not -(2**63) <= number < 2**64:
            raise ValueError("must not have integers of more than 64 bits")
    elif not math.isfinite(number):
        raise ValueError("must not have numbers that are too large")


def storable_json(value: dict[str, Any]) -> dict[str, Any]:
    """The object itself.

    Raises ``ValueError`` for texts and numbers that cannot be stored, and for more than 100 levels.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for each in level:
            if isinstance(each, str):
                storable(each)
            elif isinstance(each, int | float):
                _check_number(each)
            elif isinstance(each, dict):
                below += each
                below += each.values()
            elif isinstance(each, list):
                below += each
        if not below:
            return value
        level = below
    raise ValueError(f"must not have more than {MAX_DEPTH} levels")


# Type of an error whose text begins with the name of the field, below the place where it was found.
OF_A_FIELD = "of_a_field"


def _unsupported(detail: LiteralString) -> PydanticCustomError:
    return PydanticCustomError(ErrorCode.UNSUPPORTED_PART.value, detail)


def _wrong(detail: LiteralString) -> PydanticCustomError:
    return PydanticCustomError(OF_A_FIELD, detail)


NOT_FETCHED: LiteralString = "must be a data: URL; others are not fetched"
_WEB_URL = re.compile(r"https?://[!-~]{1,8000}", re.IGNORECASE)


def _media_url(url: str) -> str:
    if url[:5].lower() != "data:" and not _WEB_URL.fullmatch(url):
        raise _unsupported(NOT_FETCHED)
    return storable(url)


# For the published schema; the check itself has a better error.
_MEDIA_URL = Field(json_schema_extra={"pattern": "^(data:|https?://)"})


_DATA, _REFERENCE = "the data", "the id of a file"


def _source(value: Any) -> str:
    return _REFERENCE if isinstance(value, dict) and value.get("file_id") is not None else _DATA


def _one_source(value: Any) -> Any:
    if _source(value) is _REFERENCE:
        if value.get("url") is not None:
            raise _wrong("file_id: give either file_id or url")
        if value.get("file_data") is not None:
            raise _wrong("file_id: give either file_id or file_data")
        if value.get("data") is not None:
            raise _wrong("file_id: give either file_id or data")
    return value


def neutral(*values: Any) -> BeforeValidator:
    """The field is absent if it has one of these values: it means the same, and bodies are compared without it."""
    known = [(type(each), each) for each in values]
    return BeforeValidator(lambda value: None if (type(value), value) in known else value)


Text = Annotated[str, AfterValidator(storable)]
JsonObject = Annotated[dict[str, Any], AfterValidator(storable_json)]
Name = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
_KIND = described("Its kind.")
_STRICT = described("Whether the provider enforces the schema, if it can.", True)
_LONG = (Field(max_length=10_000), AfterValidator(storable))
_FunctionName = Annotated[Name, described("Name of the function.", "weather")]
CallId = Annotated[str, Field(min_length=1, max_length=512), AfterValidator(visible)]


def _file_id(text: str) -> str:
    if not _FILE_ID.fullmatch(text):
        raise ValueError("must be the id of a file, as in file-019ac0de")
    return text


FileId = Annotated[
    str,
    AfterValidator(_file_id),
    Field(json_schema_extra={"pattern": f"^{_FILE_ID.pattern}$"}),
    described("Id of an uploaded file.", "file-019ac0de7b1f0c526d4e8a309c112f8e"),
]
_Detail = Annotated[
    Literal["auto", "low", "high"] | None,
    described("How closely the model looks at the image; null: the provider's default."),
]


class TextPart(TypedDict):
    """A text."""

    type: Annotated[Literal["text"], _KIND]
    text: Annotated[Text, described("The text.", "What is this?")]


class ImageUrl(TypedDict):
    """An image, by a URL."""

    url: Annotated[
        str,
        AfterValidator(_media_url),
        _MEDIA_URL,
        described(
            "A `data:` URL with the image, or its `https:` URL if the gateway's setting `ALLOW_MEDIA_URLS` is on.",
            "data:image/png;base64,iVBORw0KGgo=",
        ),
    ]
    detail: NotRequired[_Detail]


class ImageFile(TypedDict):
    """An image that was uploaded."""

    file_id: FileId
    detail: NotRequired[_Detail]


class ImagePart(TypedDict):
    """An image: a URL, or an uploaded file."""

    type: Annotated[Literal["image_url"], _KIND]
    image_url: Annotated[
        Annotated[ImageUrl, Tag(_DATA)] | Annotated[ImageFile, Tag(_REFERENCE)],
        Discriminator(_source),
        BeforeValidator(_one_source),
        described("The image."),
    ]


class InputAudio(TypedDict):
    """A recording, in base64."""

    data: Annotated[Text, described("The recording, in base64.", "UklGRg==")]
    format: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$"), described("Its format, such as `wav` or `mp3`.", "wav")]


class AudioFile(TypedDict):
    """A recording that was uploaded."""

    file_id: FileId
    format: Annotated[str, Field(pattern=r"^[a-z0-9]{1,16}$"), described("Its format, such as `wav` or `mp3`.", "wav")]


class AudioPart(TypedDict):
    """A recording: in base64, or an uploaded file."""

    type: Annotated[Literal["input_audio"], _KIND]
    input_audio: Annotated[
        Annotated[InputAudio, Tag(_DATA)] | Annotated[AudioFile, Tag(_REFERENCE)],
        Discriminator(_source),
        BeforeValidator(_one_source),
        described("The recording."),
    ]


_FileName = Annotated[str, Field(max_length=256), AfterValidator(visible), described("Its name.", "report.pdf")]


class InputFile(TypedDict):
    """A document, by a URL."""

    file_data: Annotated[
        str,
        AfterValidator(_media_url),
        _MEDIA_URL,
        described(
            "A `data:` URL with the document, or its `https:` URL if the gateway's setting `ALLOW_MEDIA_URLS` is on.",
            "data:application/pdf;base64,JVBERi0=",
        ),
    ]
    filename: NotRequired[_FileName]


class UploadedFile(TypedDict):
    """A file that was uploaded. ``filename`` replaces the name that it was uploaded with."""

    file_id: FileId
    filename: NotRequired[_FileName]


class FilePart(TypedDict):
    """A document, such as a PDF: a URL, or an uploaded file."""

    type: Annotated[Literal["file"], _KIND]
    file: Annotated[
        Annotated[InputFile, Tag(_DATA)] | Annotated[UploadedFile, Tag(_REFERENCE)],
        Discriminator(_source),
        BeforeValidator(_one_source),
        described("The document."),
    ]


Part = Annotated[TextPart | ImagePart | AudioPart | FilePart, Field(discriminator="type")]


class CalledFunction(TypedDict):
    """The function that the model calls."""

    name: _FunctionName
    arguments: Annotated[Text, described("Its arguments: JSON, as the model wrote it.", '{"city": "Oslo"}')]


class ToolCall(TypedDict):
    """A call of a tool by the model."""

    id: Annotated[CallId, described("The call's id.", "call_1")]
    type: Annotated[Literal["function"], _KIND]
    function: Annotated[CalledFunction, described("The function and its arguments.")]


# Not Python's own code, because it runs for every message, and again when it is written.
_class_name = partial(attrgetter("__class__.__name__"))
vars(_class_name)["__name__"] = "class_name"  # pydantic asks for it.
Content = Annotated[
    Annotated[str, Tag("str")] | Annotated[list[Part], Field(min_length=1, max_length=1000), Tag("list")],
    Discriminator(
        _class_name,
        custom_error_type="content_type",
        custom_error_message="must be a text or a list of parts",
    ),
]
Role = Literal["system", "developer", "user", "assistant", "tool"]


# Not Python's own code, because it runs for every field of every message.
absent = partial(operator.is_, None)


class DialogueMessage(BaseModel):
    """One message of a dialogue."""

    model_config = ConfigDict(extra="ignore")

    role: Annotated[Role, described("The speaker.", "user")]
    content: Annotated[
        Content | None,
        described("The text of the message, or its parts; null in a message that only calls tools.", "What is a log?"),
    ] = None
    name: Annotated[
        Annotated[str, Field(max_length=64)] | None, described("Name of the speaker, if there are several.", "ada")
    ] = Field(None, exclude_if=absent)
    tool_calls: Annotated[
        Annotated[list[ToolCall], Field(max_length=MAX_CALLS)] | None,
        neutral([]),
        described("The tool calls of the model; only in assistant messages."),
    ] = Field(None, exclude_if=absent)
    tool_call_id: Annotated[
        CallId | None, described("Id of the call that this is the result of; only in tool messages.", "call_1")
    ] = Field(None, exclude_if=absent)
    refusal: Annotated[
        str | None, neutral(""), described("The model's refusal to answer; only in assistant messages.", "I cannot.")
    ] = Field(None, exclude_if=absent)

    @model_validator(mode="after")
    def _complete(self) -> "DialogueMessage":
        more = self.tool_calls or self.refusal or self.tool_call_id
        if not more and type(self.content) is str and self.role != "tool":
            return self
        if self.content is None and not (self.role == "assistant" and (self.tool_calls or self.refusal)):
            raise _wrong(f"content: {MISSING}")
        if self.role != "assistant" and (self.tool_calls or self.refusal):
            raise _wrong("role: only an assistant message has tool_calls or a refusal")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise _wrong(
                "tool_call_id: every tool message has the id of the call that it answers, and no other message"
            )
        if self.role != "user" and any(part["type"] != "text" for part in self.parts):
            raise _unsupported("only a user message may have parts other than text")
        return self

    @property
    def parts(self) -> Sequence[Any]:
        """The parts of a message whose content is not a plain text."""
        return self.content if isinstance(self.content, list) else ()

    @property
    def text(self) -> str:
        """The text of the message, without other parts."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def plain(self) -> bool:
        """Whether it is a text and nothing else, as in release 0.1.0."""
        return isinstance(self.content, str) and not (self.tool_calls or self.tool_call_id or self.refusal)


class OfferedFunction(TypedDict):
    """A function that the model may call."""

    name: _FunctionName
    description: NotRequired[
        Annotated[
            Annotated[str, *_LONG] | None, described("What it does; the model reads this.", "The weather in a city.")
        ]
    ]
    parameters: NotRequired[Annotated[JsonObject | None, described("JSON Schema of its arguments.")]]
    strict: NotRequired[Annotated[StrictBool | None, _STRICT]]


class Tool(TypedDict):
    """A tool that the model may call."""

    type: Annotated[Literal["function"], _KIND]
    function: Annotated[OfferedFunction, described("The function.")]


class NamedFunction(TypedDict):
    """The name of a function."""

    name: _FunctionName


class NamedTool(TypedDict):
    """The tool that the model must call."""

    type: Annotated[Literal["function"], _KIND]
    function: Annotated[NamedFunction, described("The function.")]


class AnswerFormat(TypedDict):
    """A JSON Schema that the answer must match."""

    name: Annotated[Name, described("Name of the schema; the model reads this.", "greeting")]
    schema: Annotated[JsonObject, described("The JSON Schema.")]
    description: NotRequired[
        Annotated[
            Annotated[str, *_LONG] | None, described("What the schema is for; the model reads this.", "A greeting.")
        ]
    ]
    strict: NotRequired[Annotated[StrictBool | None, _STRICT]]


class JsonFormat(TypedDict):
    """An answer that is a JSON object."""

    type: Annotated[Literal["json_object"], _KIND]


class SchemaFormat(TypedDict):
    """An answer that matches a JSON Schema."""

    type: Annotated[Literal["json_schema"], _KIND]
    json_schema: Annotated[AnswerFormat, described("What the answer must match.")]


ResponseFormat = Annotated[JsonFormat | SchemaFormat, Field(discriminator="type")]
_WORD, _TOOL = "a word", "a tool"
ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag(_WORD)] | Annotated[NamedTool, Tag(_TOOL)],
    Discriminator(lambda value: _TOOL if isinstance(value, dict) else _WORD),
]


class ReasoningText(TypedDict):
    """A text in which the model reasons."""

    type: Annotated[Literal["reasoning_text"], _KIND]
    text: Annotated[str, described("The text.", "The user wants")]


class ReasoningItem(TypedDict):
    """The model's reasoning."""

    type: Annotated[Literal["reasoning"], _KIND]
    content: Annotated[list[ReasoningText], described("The texts, in order.")]


class OutputText(TypedDict):
    """A text of the answer."""

    type: Annotated[Literal["output_text"], _KIND]
    text: Annotated[str, described("The text.", "Hello world")]


class OutputRefusal(TypedDict):
    """The model's refusal to answer."""

    type: Annotated[Literal["refusal"], _KIND]
    refusal: Annotated[str, described("The refusal.", "I cannot help with that.")]


class MessageItem(TypedDict):
    """What the model says."""

    type: Annotated[Literal["message"], _KIND]
    role: Annotated[Literal["assistant"], described("The speaker.")]
    content: Annotated[
        list[Annotated[OutputText | OutputRefusal, Field(discriminator="type")]], described("What it says, in order.")
    ]


class FunctionCallItem(TypedDict):
    """A call of a tool."""

    type: Annotated[Literal["function_call"], _KIND]
    call_id: Annotated[str, described("The call's id.", "call_1")]
    name: Annotated[str, described("Name of the function.", "weather")]
    arguments: Annotated[str, described("Its arguments: JSON, as the model wrote it.", '{"city": "Oslo"}')]


Item = Annotated[ReasoningItem | MessageItem | FunctionCallItem, Field(discriminator="type")]
Output = Annotated[
    list[Item] | None,
    Field(exclude_if=absent),
    described(
        "The items of the answer, in order: reasoning (if it was requested), messages, tool calls. Absent if the "
        "answer is only one text.",
        [{"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'}],
    ),
]


DATA_FIELDS = {"image_url": "url", "file": "file_data", "input_audio": "data"}
"""The field in which each type of media has its data, within the field that is named like the type."""


def file_id_of(part: Mapping[str, Any]) -> str | None:
    """The id of the file that a part names, if it names one."""
    match part:
        case (
            {"type": "image_url", "image_url": {"file_id": str(id)}}
            | {"type": "file", "file": {"file_id": str(id)}}
            | {"type": "input_audio", "input_audio": {"file_id": str(id)}}
        ):
            return id
    return None


_type_of_content = attrgetter("content.__class__")


def file_ids_in(messages: Sequence[DialogueMessage]) -> list[str]:
    """The ids of the files that messages name, in order, as often as they name them."""
    if list not in map(_type_of_content, messages):  # Not Python's own code: it runs for every request.
        return []
    return [id for message in messages for part in message.parts if (id := file_id_of(part))]


def is_web_url(part: Mapping[str, Any]) -> bool:
    """Whether a part has a URL that would have to be fetched."""
    url = part[part["type"]].get(DATA_FIELDS[part["type"]]) if part["type"] in ("image_url", "file") else None
    return url is not None and url[:5].lower() != "data:"


def refuse_web_urls(messages: Sequence[DialogueMessage]) -> None:
    """Raise ``UNSUPPORTED_PART``, with its place, for a part that has a URL that would have to be fetched."""
    if list not in map(_type_of_content, messages):
        return
    for number, message in enumerate(messages):
        for at, part in enumerate(message.parts):
            if is_web_url(part):
                place = f"messages.{number}.content.{at}.{part['type']}.{DATA_FIELDS[part['type']]}"
                raise OrchestraError(ErrorCode.UNSUPPORTED_PART, f"{place}: {NOT_FETCHED}")


def calls_in(output: Sequence[Mapping[str, Any]]) -> list[ToolCall]:
    """The tool calls among the items of an answer, as a message has them."""
    return [
        {"id": item["call_id"], "type": "function", "function": {"name": item["name"], "arguments": item["arguments"]}}
        for item in output
        if item["type"] == "function_call"
    ]


def refusal_in(output: Sequence[Mapping[str, Any]]) -> str | None:
    """The refusal among the items of an answer, if there is one."""
    said = [part for item in output if item["type"] == "message" for part in item["content"]]
    return "".join(part["refusal"] for part in said if part["type"] == "refusal") or None
