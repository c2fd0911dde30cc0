"""What a message counts in a prompt, in bytes: an estimate of its tokens before any tokenizer sees it."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import orjson

from orchestra.store.files import StoredFile
from schemas.content import file_id_of
from schemas.generation import ChatMessage, Options

# An estimate, because every model has its own tokenizer; 3 bytes per token is on the safe side for most texts.
BYTES_A_TOKEN = 3
# Providers cut an image into a limited number of tiles: about a thousand tokens, however many bytes it has.
_TOKENS_AN_IMAGE = 1000
# Rough, and rather too few tokens than too many: a provider refuses a request that is too long, but one that is wrongly
# taken for too long is never sent. A page of a PDF has some 50 kB and 1,500 tokens; a second of a recording 16 to 32 kB
# and 25 to 100.
_BYTES_OF_A_DOCUMENT_A_TOKEN = 30
_BYTES_OF_A_RECORDING_A_TOKEN = 300

# What the files that a message names count (`weight_of_file`), by their ids.
Sizes = Mapping[str, int]
NO_FILES: Sizes = MappingProxyType({})


def weight(message: ChatMessage, sizes: Sizes = NO_FILES) -> int:
    """The bytes of the message's texts and calls, and what its media count.

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


def weight_of_file(file: StoredFile) -> int:
    """What a document counts: the bytes of a text, an estimate for others."""
    if file.of_body:
        return _media(file.bytes * 3 // 4, _BYTES_OF_A_DOCUMENT_A_TOKEN)  # It is base64.
    return file.bytes if is_text(file) else _media(file.bytes, _BYTES_OF_A_DOCUMENT_A_TOKEN)


def is_text(file: StoredFile) -> bool:
    """Whether the model is sent its text."""
    return file.media_type.startswith(("text/", "application/json"))


def _of_part(part: dict[str, Any], sizes: Sizes) -> int:
    match part["type"]:
        case "text":
            return len(part["text"].encode())
        case "image_url":
            return _TOKENS_AN_IMAGE * BYTES_A_TOKEN
        case "input_audio":
            if id := file_id_of(part):
                return sizes.get(id, 0) * _BYTES_OF_A_DOCUMENT_A_TOKEN // _BYTES_OF_A_RECORDING_A_TOKEN
            return _media(_decoded(part["input_audio"]["data"]), _BYTES_OF_A_RECORDING_A_TOKEN)
        case _:
            if id := file_id_of(part):
                return sizes.get(id, 0)
            return _media(_decoded(part["file"]["file_data"]), _BYTES_OF_A_DOCUMENT_A_TOKEN)


def _decoded(base64: str) -> int:
    return len(base64) * 3 // 4


def _media(size: int, bytes_a_token: int) -> int:
    return -(-size * BYTES_A_TOKEN // bytes_a_token)
