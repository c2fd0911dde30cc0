"""``orchestra models``: the models of an LLM service, and which can be reached now."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from orchestra.cli.environment import environment_of_stack, is_address
from orchestra.cli.options import DEFAULT_DATA, Data, fail
from orchestra.cli.terminal import Terminal, echo, hand_over, plain_table

if TYPE_CHECKING:
    from schemas.generation import ModelInfo, ModelList

_DEFAULT_URL = "http://127.0.0.1:8082"
# The service itself waits 3 s for its providers.
_SECONDS = 10.0
_REACH = {None: Text("-"), True: Text("yes", "green"), False: Text("no", "red")}


def models(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer of `GET /models?check=true`.")] = False,
    data: Data = DEFAULT_DATA,
) -> None:
    """List the models of an LLM service, and whether their providers can be reached now. Spends no tokens.

    Reads LLM_SERVICE_URL and LLM_SERVICE_TOKEN. Default: the LLM service of the stack on --data, else
    http://127.0.0.1:8082.
    """
    offer = _ask(*_service(data))
    if as_json:
        hand_over(offer.model_dump_json(indent=2))
    else:
        Terminal().print(_table(offer))
        echo(f"Default model: {offer.default}")
        for model in offer.data:
            for note in _notes(model):
                echo(f"{model.name}: {note}")


def _service(data: Path) -> tuple[str, str | None]:
    """URL and token of the service: from the environment, else the stack's, whose token is used for no other URL."""
    told = os.environ if os.environ.get("LLM_SERVICE_URL") else environment_of_stack(data) or os.environ
    url = told.get("LLM_SERVICE_URL") or _DEFAULT_URL
    if not is_address(url):
        raise fail(f"no LLM service at {url[:200]!r}, not a URL; set LLM_SERVICE_URL as http://127.0.0.1:8082")
    return url.rstrip("/").removesuffix("/generate"), told.get("LLM_SERVICE_TOKEN")


def _ask(url: str, token: str | None) -> "ModelList":
    import httpx
    from pydantic import ValidationError

    from schemas.generation import ModelList

    if token and not (token.isascii() and token.isprintable()):
        raise fail("LLM_SERVICE_TOKEN must be printable ASCII")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        response = httpx.get(
            f"{url}/models", params={"check": "true"}, headers=headers, timeout=_SECONDS, trust_env=False
        )
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise fail(f"the LLM service at {url} refused this LLM_SERVICE_TOKEN")
        return ModelList.model_validate_json(response.raise_for_status().content)
    except httpx.HTTPStatusError as error:
        raise fail(f"the LLM service at {url} returned status {error.response.status_code}") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise fail(f"no LLM service at {url}: {error}. Set LLM_SERVICE_URL, or start one: `orchestra llm`") from None
    except ValidationError:
        raise fail(f"the server at {url} is not an LLM service") from None


def _table(offer: "ModelList") -> Table:
    """One line per model; a name longer than its column is folded."""
    numbers = [Column(title, justify="right", no_wrap=True) for title in ("context", "output", "$/M in/out")]
    names = (Column("model", overflow="fold"), Column("provider", no_wrap=True))
    table = plain_table(*names, *numbers, Column("reach", no_wrap=True))
    for model in offer.data:
        table.add_row(model.name, *_row(model), _REACH[model.reachable])
    if offer.other:
        table.add_row("any other", *_row(offer.other))
    return table


def _row(model: "ModelInfo") -> tuple[str, ...]:
    price = f"{model.price.input:g}/{model.price.output:g}" if model.price else ""
    return model.provider, f"{model.context_tokens:,}", f"{model.max_output_tokens:,}", price


def _notes(model: "ModelInfo") -> Iterator[str]:
    if model.aliases:
        yield f"also called {', '.join(model.aliases)}"
    if model.fallbacks:
        yield f"falls back to {', '.join(model.fallbacks)}"
    if model.detail:
        yield model.detail
