"""Counts what a thread executes: Python instructions, and calls of expensive native functions.

Both are exact. Time is not: on a shared machine the same work may take half as long again in the next run.
"""

import gc
import json
import sys
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any, Self

_HERE = str(Path(__file__).parent)
# Native functions that cost far more than the instruction that calls them: parse, write, check, hash, match.
_CODECS = frozenset(
    {"orjson", "pydantic_core", "_hashlib", "_sha1", "_sha2", "_md5", "_blake2", "re", "zlib", "cramjam"}
)
# The standard library's JSON calls its native half through an object whose calls are not reported.
_CODEC_CODE = frozenset({json.loads.__code__, json.dumps.__code__})


class Counting:
    """Counts while entered, in this thread only; the guard's own code does not count."""

    def __init__(self) -> None:
        self.instructions = 0
        self.codecs = 0

    def __enter__(self) -> Self:
        gc.disable()
        sys.setprofile(self._called)
        sys.settrace(self._entered)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)
        sys.setprofile(None)
        gc.enable()

    def _entered(self, frame: FrameType, _event: str, _argument: Any) -> Any:
        if frame.f_code.co_filename.startswith(_HERE):
            return None
        self.codecs += frame.f_code in _CODEC_CODE
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return self._stepped

    def _stepped(self, _frame: FrameType, event: str, _argument: Any) -> Any:
        self.instructions += event == "opcode"
        return self._stepped

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call" and not frame.f_code.co_filename.startswith(_HERE):
            self.codecs += _package(argument) in _CODECS


def _package(native: Any) -> str:
    owner = getattr(native, "__self__", None)
    free = owner is None or isinstance(owner, ModuleType)
    return str(native.__module__ if free else type(owner).__module__).partition(".")[0]
