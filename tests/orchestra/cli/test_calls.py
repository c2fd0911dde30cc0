"""Promises of orchestra/cli/calls.py: how a verb ends when a gateway refuses a call."""

import importlib
import pkgutil
from typing import Any

import pytest
from pydantic import BaseModel

import schemas.api
from schemas.errors import ErrorCode, OrchestraError
from tests.support.command_line import verbs
from tests.support.scripted_gateway import ScriptedGateway

# Options that have nothing to do with a field of the API.
OWN = {"gateway", "key", "data", "as_csv", "as_json", "limit"}
OF_FILES = {"file", "force", "output"}
OF_VERBS = {"dry_run", "keep_keys", "no_wait", "once", "yes"}
MODULES = [importlib.import_module(f"schemas.api.{each.name}") for each in pkgutil.iter_modules(schemas.api.__path__)]
MODELS = {each for module in MODULES for each in vars(module).values() if isinstance(each, type)}
FIELDS = frozenset[str]().union(*(each.model_fields for each in MODELS if issubclass(each, BaseModel)))
VERBS = {
    " ".join(words): verb
    for words, verb in verbs()
    if not hasattr(verb, "commands") and "gateway" in {each.name for each in verb.params}
}


def refusal(detail: str, code: ErrorCode = ErrorCode.INVALID_REQUEST) -> OrchestraError:
    return OrchestraError(code, detail)


@pytest.mark.parametrize("name", VERBS)
def test_a_parameter_is_named_like_its_field(name: str) -> None:
    """So a refusal that names a field of the API can name the option: of every verb that calls a gateway."""
    options: list[Any] = [each for each in VERBS[name].params if each.param_type_name == "option"]
    fields = {each.name.removeprefix("of_") for each in options} - OWN - OF_FILES - OF_VERBS

    assert set() == fields - FIELDS


@pytest.mark.parametrize(
    ("words", "field", "option"),
    [
        ("requests list --status x", "status", "--status"),
        ("requests change --priority 1 --of-priority 99", "filter.priority", "--of-priority"),
        ("requests change --deadline x --model m", "change.deadline", "--deadline"),
        ("models pause m --until x", "until", "--until"),
        ("stats --from x", "from", "--from"),
        ("audit --from x", "created_after", "--from"),
        ("dead-letters replay --after x", "created_after", "--after"),
        ("conversations copy 7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01 --metadata a=b", "metadata", "--metadata"),
        ("send Hello --no-wait --model x", "model", "--model"),
    ],
)
async def test_a_refused_value_of_an_option_is_wrong_usage(
    script: ScriptedGateway, words: str, field: str, option: str
) -> None:
    """Exit code 2, the option, and the gateway's reason."""
    method_and_path = {
        "requests list": "GET /v1/requests", "requests change": "POST /v1/requests/change",
        "models pause": "POST /v1/models/m/pause", "stats --from": "GET /v1/stats", "audit --from": "GET /v1/audit",
        "dead-letters replay": "POST /v1/dead-letters/replay",
        "conversations copy": "POST /v1/conversations/7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01/copy",
        "send Hello": "POST /v1/messages",
    }[" ".join(words.split()[:2])]  # fmt: skip
    script.answers[method_and_path] = refusal(f"{field}: must be another one; and 1 more")

    done = await script.orchestra(*words.split())

    assert (2, "") == (done.status, done.output), done.stderr
    assert f"Invalid value for {option}: must be another one; and 1 more" in done.stderr


@pytest.mark.parametrize(
    ("code", "detail"),
    [
        (ErrorCode.INVALID_REQUEST, "cursor: not a cursor of this list"),
        (ErrorCode.INVALID_REQUEST, "the call is invalid"),
        (ErrorCode.UNAVAILABLE, "status: is not known now"),
    ],
    ids=["no-option", "no-field", "no-refusal"],
)
async def test_what_is_not_about_an_option_is_a_failure(script: ScriptedGateway, code: ErrorCode, detail: str) -> None:
    """Exit code 1 with the gateway's code and reason."""
    script.answers["GET /v1/requests"] = refusal(detail, code)

    done = await script.orchestra("requests", "list", "--status", "failed")

    assert (1, "", f"{code}: {detail}\n") == (done.status, done.output, done.stderr)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        ("send Hello --conversation x", "--conversation"),
        ("stats --by owner", "--by"),
        ("conversations copy 7b1f0c52-6d4e-8a30-9c11-2f8e4b6a9d01 --metadata a", "--metadata"),
        ("models pause m --gateway x", "--gateway"),
    ],
)
async def test_a_value_that_the_verb_itself_refuses_is_wrong_usage(
    script: ScriptedGateway, words: str, option: str
) -> None:
    """Exit code 2 and the option, without a call to the gateway."""
    done = await script.orchestra(*words.split())

    assert 2 == done.status, done.stderr
    assert f"Invalid value for {option}" in done.stderr.replace("'", "")
    assert [] == script.asked
