"""Answers of more than one text, in pieces and as items."""

from typing import Any

from hypothesis import strategies as st

from orchestra.transcript import Piece

TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@st.composite
def answers(draw: st.DrawFn, max_size: int = 8) -> list[Piece]:
    """An answer as a worker sends it: in item order, each piece with text."""
    pieces: list[Piece] = []
    calls = 0
    for kind in draw(st.lists(st.sampled_from(["text", "refusal", "reasoning", "tool_call"]), max_size=max_size)):
        if kind == "tool_call":
            pieces.append(Piece("tool_call", "", calls, f"call_{calls}", draw(st.sampled_from(["a", "weather"]))))
            pieces += [Piece("tool_arguments", text, calls) for text in draw(st.lists(TEXTS, max_size=3)) if text]
            calls += 1
        elif text := draw(TEXTS):
            pieces.append(Piece(kind, text))  # type: ignore[arg-type]
    return pieces


class Reading:
    """An answer as a client of a stream has it: events in, pieces out, by what docs/reference/streams.md says."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    def take(self, name: str, data: dict[str, Any]) -> None:
        """Apply an event."""
        match name:
            case "restart":
                text = data["text"]
                plain = [{"type": "output_text", "text": text}] if text else []
                said = [{"type": "message", "role": "assistant", "content": plain}] if plain else []
                self.items = [_copy(item) for item in data.get("output", said)]
            case "delta":
                self._say("output_text", "text", data["text"])
            case "refusal.delta":
                self._say("refusal", "refusal", data["text"])
            case "reasoning.delta":
                if not self.items or self.items[-1]["type"] != "reasoning":
                    self.items.append({"type": "reasoning", "content": [{"type": "reasoning_text", "text": ""}]})
                self.items[-1]["content"][-1]["text"] += data["text"]
            case "tool_call":
                assert data["index"] == sum(item["type"] == "function_call" for item in self.items)
                call = {"call_id": data["call_id"], "name": data["name"], "arguments": ""}
                self.items.append({"type": "function_call", **call})
            case "tool_call.delta":
                assert self.items[-1]["type"] == "function_call"
                assert data["index"] == sum(item["type"] == "function_call" for item in self.items) - 1
                self.items[-1]["arguments"] += data["arguments"]

    def _say(self, kind: str, field: str, text: str) -> None:
        if not self.items or self.items[-1]["type"] != "message":
            self.items.append({"type": "message", "role": "assistant", "content": []})
        content = self.items[-1]["content"]
        if not content or content[-1]["type"] != kind:
            content.append({"type": kind, field: ""})
        content[-1][field] += text


def _copy(item: dict[str, Any]) -> dict[str, Any]:
    return {**item, "content": [dict(part) for part in item["content"]]} if "content" in item else dict(item)
