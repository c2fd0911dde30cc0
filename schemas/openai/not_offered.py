"""What OpenAI's API has and this server has not: refused by name.

Source of the names: OpenAI's reference ("Create chat completion") and its Python library 3.57.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

Neutral = tuple[Any, ...]
"""Values with which a field changes nothing. ``null`` is one for all."""

OF_CHAT: dict[str, Neutral] = {
    "audio": (),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "prediction": (),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
OF_CHAT_MESSAGES: dict[str, Neutral] = {"audio": (), "function_call": ()}
# Fields that are offered with fewer values.
_FEWER_VALUES = frozenset({"modalities", "n", "verbosity"})


class Refusal(NamedTuple):
    """A field that is refused. ``code``: as OpenAI names the reason."""

    field: str
    code: str
    detail: str


def refusals(
    body: Mapping[str, Any], known: Collection[str], not_offered: Mapping[str, Neutral] = OF_CHAT, place: str = ""
) -> Iterator[Refusal]:
    """The fields of a body that are refused: those of OpenAI's that are not offered, and those that are unknown.

    ``place``: where in the whole body it is. The name of an unknown field is not repeated if it is no ordinary name.
    """
    for name, value in body.items():
        if name in known or value is None:
            continue
        field = f"{place}{name}"
        if name not in not_offered:
            yield _unknown(field, name)
        elif value not in not_offered[name]:
            more = _FEWER_VALUES & {name}
            said = "this value is not offered here" if more else "not offered here"
            yield Refusal(field, "unsupported_value" if more else "unsupported_parameter", said)


def _unknown(field: str, name: str) -> Refusal:
    shown = name.isascii() and name.isidentifier() and len(name) <= 64
    return Refusal(field if shown else "", "unknown_parameter", "unknown parameter")
