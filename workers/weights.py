"""What a message counts in a prompt, in bytes: an estimate of its tokens before any tokenizer sees it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from schemas.content import file_id_of
from schemas.generation import ChatMessage, Options

# An estimate, because every model has its own tokenizer; 3 bytes per token is on the safe side for most texts.
BYTES_A_TOKEN = 3
# Providers cut an image into a limited number of tiles: about a thousand tokens, however many bytes it has.
_TOKENS_AN_IMAGE = 1000


# Bytes of the files that a message names, by their ids.
Sizes = Mapping[str, int]
NO_FILES: Sizes = MappingProxyType({})


def weight(message: ChatMessage, sizes: Sizes = NO_FILES) -> int:
    """The bytes of the message's texts, calls and media; an image counts a fixed number.

    A file that is not in ``sizes`` counts nothing.
    """
    content = message.content
    if type(content) is str and message.role != "assistant":
        return len(content.encode())
    bytes = (
        sum(_of_part(part, sizes) for part in message.parts)
        if isinstance(content, list)
        else len((content or "").encode())
    )
    if message.tool_calls:
        bytes += len(orjson.dumps(message.tool_calls))
    if message.refusal:
        bytes += len(message.refusal.encode())
    if message.state:
        bytes += len(orjson.dumps(message.state))
    return bytes


def weight_of_options(options: Options) -> int:
    """The bytes of the tools and of the schema for the answer, which providers put into the prompt."""
    if not (options.tools or options.response_format):
        return 0
    return len(orjson.dumps([each for each in (options.tools, options.response_format) if each]))


def _of_part(part: dict[str, Any], sizes: Sizes) -> int:
    match part["type"]:
        case "text":
            return len(part["text"].encode())
        case "image_url":
            return _TOKENS_AN_IMAGE * BYTES_A_TOKEN
        case "input_audio":
            return _decoded(part["input_audio"]["data"])
        case _:
            id = file_id_of(part)
            return sizes.get(id, 0) if id else _decoded(part["file"]["file_data"])


def _decoded(base64: str) -> int:
    return len(base64) * 3 // 4
