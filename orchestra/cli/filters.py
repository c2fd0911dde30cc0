"""A flag for each filter of the list of requests, for the verbs that select requests."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_args

import typer
from pydantic.fields import FieldInfo

from schemas.api.requests import RequestFilter


def with_filters(verb: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for each filter. The verb gets those that are given as its ``filter``: numbers, and texts.

    A filter named like another option of the verb becomes ``--of-NAME``. Ids are up to the verb.
    """
    of_verb = {name: each for name, each in inspect.signature(verb).parameters.items() if name != "filter"}
    flags: dict[str, inspect.Parameter] = {}
    for name, field in RequestFilter.model_fields.items():
        if name == "id":
            continue
        flag = f"of_{name}" if name in of_verb else name
        option = typer.Option(f"--{flag.replace('_', '-')}", help=field.description)
        flags[name] = inspect.Parameter(
            flag, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[_kind(field) | None, option]
        )

    def filtered(**given: Any) -> None:
        values = {name: given.pop(each.name) for name, each in flags.items()}
        verb(**given, filter={name: value for name, value in values.items() if value is not None})

    parameters = [*of_verb.values(), *flags.values()]
    filtered.__name__, filtered.__doc__ = verb.__name__, verb.__doc__
    filtered.__annotations__ = {each.name: each.annotation for each in parameters}
    filtered.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return filtered


def _kind(field: FieldInfo) -> type:
    """What typer reads the flag as. All that is not a number is read by the gateway."""
    kind = get_args(get_args(field.annotation)[0])
    return kind[0] if kind and kind[0] in {int, float} else str
