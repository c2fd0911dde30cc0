"""Hypothesis strategies: request bodies that are right, and JSON of every kind."""

from typing import Any

from hypothesis import strategies as st

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64)


def bodies() -> st.SearchStrategy[dict[str, Any]]:
    """Bodies of ``POST /v1/messages`` that must be accepted."""
    message = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXTS})
    return st.fixed_dictionaries(
        {"messages": st.lists(message, min_size=1, max_size=4)},
        optional={
            "conversation_id": st.uuids().map(str),
            "model": _NAMES,
            "context": st.sampled_from(["auto", "given", "stored"]),
            "priority": st.integers(0, 9),
            "temperature": st.floats(0, 2),
            "max_tokens": st.integers(1, 1_000_000),
            "stop": st.lists(_NAMES, max_size=4),
            "metadata": st.dictionaries(_NAMES, TEXTS.map(lambda text: text[:512]), max_size=4),
        },
    )


def any_json() -> st.SearchStrategy[Any]:
    """Any value that JSON can hold, lone surrogates included; often with the field names of a request."""
    leaf = (
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters())
    )
    names = st.sampled_from(
        ["messages", "role", "content", "id", "model", "deadline", "metadata", "request_id", "stop"]
    )
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(names | st.text(st.characters()), inner, max_size=4)
        ),
        max_leaves=12,
    )
