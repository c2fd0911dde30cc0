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


def near_bodies() -> st.SearchStrategy[dict[str, Any]]:
    """Bodies with every field that a record may have, all of them right but for two at most."""
    moment = st.datetimes(timezones=st.none() | st.timezones()).map(lambda at: at.isoformat())
    message = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXTS})
    ids, agents = st.uuids().map(str), st.sampled_from(["summarization", "nobody"])
    good: dict[str, st.SearchStrategy[Any]] = {
        "prompt": TEXTS,
        "history": st.lists(message, max_size=3),
        "id": ids,
        "request_id": ids,
        "retry_of": ids,
        "agent": agents,
        "task_type": agents,
        "on_busy": st.sampled_from(["enqueue", "reject", "interrupt"]),
        "deadline": moment,
        "not_before": moment,
        "stream": st.booleans(),
        "top_p": st.floats(0.1, 1),
        "of_the_future": any_json(),
    }
    wrong = moment | ids | st.sampled_from(["", "\0", "0"]) | st.integers(-2, 12) | st.floats(-1, 3) | any_json()
    names = st.sampled_from(["messages", "conversation_id", "model", "context", "priority", "temperature", *good])
    right = st.builds(dict.__or__, bodies(), st.fixed_dictionaries({}, optional=good))
    some = st.builds(_without, right, st.none() | names)
    return st.builds(dict.__or__, some, st.just({}) | st.dictionaries(names, wrong, max_size=2))


def _without(body: dict[str, Any], name: str | None) -> dict[str, Any]:
    return {each: value for each, value in body.items() if each != name}


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
