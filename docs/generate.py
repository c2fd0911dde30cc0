"""Write docs/reference and the files of deploy/ from the code.

The reference: HTTP API, Python client, settings, metrics, topics, states, errors, commands. Of deploy/: the example
environment, and what Prometheus and Grafana read.

`python docs/generate.py` writes; with `--check` it only lists what differs.
"""

import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import wrap
from typing import Any

import http_api
import python_client
import typer.main
from pydantic import SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from tables import table
from typer import Context
from typer.core import TyperGroup

from deploy import known
from deploy.files import files
from gateway.openai.errors import shape
from orchestra.cli.main import build
from orchestra.setting_names import SERVICES, settings_of
from orchestra.telemetry.metrics import Label
from schemas.errors import ERRORS, OrchestraError, ending_status
from schemas.status import LEGAL_MOVES, WAITING, Status
from schemas.topics import DAY_MS, TOPICS

ROOT = Path(__file__).parents[1]
TITLES = {"gateway": "Gateway", "workers": "Worker", "llm_service": "LLM service"}


def settings() -> str:
    """Every environment variable of every service."""
    intro = (
        "Each service reads them from the environment once, at its start. An empty variable is unset. "
        "[deploy/example.env](../../deploy/example.env) has all of them, with their defaults.\n\n"
        "Any other variable is reported if it begins with `ORCHESTRA_`, or if its name is within two "
        "characters of a setting's: each service logs `unknown_setting` with the name that was probably meant, and "
        "`orchestra doctor` shows a warning. In Kubernetes, a Service named `metrics` or `tasks` sets `METRICS_PORT` "
        "or `TASKS_PORT` to a URL; such values are ignored."
    )
    sections = [f"# Settings\n\n{intro}\n"]
    for service in SERVICES:
        rows = [_setting(name, field) for name, field in sorted(_fields(service).items())]
        sections.append(f"## {TITLES[service]}\n\n" + table(["variable", "default", "what"], rows))
    return "\n".join(sections)


def _fields(service: str) -> dict[str, FieldInfo]:
    found = settings_of(service)
    assert found
    return found.model_fields


def _setting(name: str, field: FieldInfo) -> list[str]:
    default = _default(field)
    shown = "**required**" if field.is_required() else f"`{default}`" if default else ""
    return [f"`{name.upper()}`", shown, field.description or ""]


def _default(field: FieldInfo) -> str | None:
    """A default as an operator would write it. None if there is none."""
    value = field.get_default(call_default_factory=True)
    if value in (PydanticUndefined, None):
        return None
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    return str(value).lower() if isinstance(value, bool) else str(value)


def example_environment() -> str:
    """Every setting once, commented out, with its default, below the services that read it."""
    readers: dict[str, list[str]] = defaultdict(list)
    for service in SERVICES:
        for name in _fields(service):
            readers[name].append(service)
    intro = (
        "# Every setting, with its default. Remove the # before a name and write your value; a name without a value\n"
        "# is unset. Give the file to `docker run --env-file`, or to systemd as EnvironmentFile.\n"
    )
    sections = [intro]
    for services in sorted({tuple(each) for each in readers.values()}, key=lambda each: (-len(each), each)):
        names = sorted(name for name, read_by in readers.items() if tuple(read_by) == services)
        title = ", ".join(TITLES[service] for service in services)
        sections.append(f"## {title}\n\n" + "\n".join(_example(name, services) for name in names))
    return "\n".join(sections)


def _example(name: str, services: tuple[str, ...]) -> str:
    fields = [_fields(service)[name] for service in services]
    said = [f"{'Required. ' if field.is_required() else ''}{field.description}" for field in fields]
    defaults = [_default(field) or "" for field in fields]
    if len(set(defaults)) > 1:
        said = [f"{text} Default: {default or 'unset'}." for text, default in zip(said, defaults, strict=True)]
    if len(set(said)) > 1:
        said = [f"{TITLES[service]}: {text}" for service, text in zip(services, said, strict=True)]
    comments = [f"# {line}\n" for text in dict.fromkeys(said) for line in wrap(text, 117, break_on_hyphens=False)]
    return "".join(comments) + f"#{name.upper()}={defaults[0]}\n"


def metrics() -> str:
    """Every metric that a service shows at `/metrics`."""
    intro = (
        "In Prometheus' text format. Values that a label does not list are counted together as `other`. [Dashboards "
        "and alerts](../howto/watch-with-prometheus.md) read them."
    )
    sections = [f"# Metrics\n\n{intro}\n"]
    for service in SERVICES:
        rows = [_metric(each) for each in known.metrics() if each.service == service]
        sections.append(f"## {TITLES[service]}\n\n" + table(["metric", "kind", "labels", "what"], sorted(rows)))
    return "\n".join(sections)


def _metric(metric: known.Known) -> list[str]:
    return [f"`{metric.name}`", metric.kind, "; ".join(map(_label, metric.labels.values())), metric.what]


def _label(label: Label) -> str:
    return f"`{label.name}`: {label.of or ', '.join(f'`{value}`' for value in sorted(label.values))}"


def topics() -> str:
    """The topics and their settings."""
    rows = [
        [
            f"`{topic.name}`",
            topic.key,
            ", ".join(f"`{name}`" if "." in name else name for name in topic.carries),
            ", ".join(topic.written_by),
            ", ".join(topic.read_by),
            str(topic.partitions),
            _kept(topic.retention_ms),
        ]
        for topic in TOPICS
    ]
    exact = [[f"`{topic.name}`", f"`{name}`", f"`{value}`"] for topic in TOPICS for name, value in topic.config.items()]
    return (
        "# Topics\n\nCreated and checked by `orchestra topics`. Partitions and retention are minimums.\n\n"
        + table(["topic", "key", "carries", "written by", "read by", "partitions", "kept"], rows)
        + "\n## Settings that must match exactly\n\n"
        + table(["topic", "setting", "value"], exact)
        + "\nThe records themselves: [AsyncAPI](../../schemas/published/asyncapi.json), which each gateway shows at "
        "`/asyncapi`, and [JSON Schema](../../schemas/published), one file for each type.\n"
    )


def _kept(milliseconds: int) -> str:
    if milliseconds < 0:
        return "forever"
    return f"{milliseconds // DAY_MS} d" if milliseconds >= DAY_MS else f"{milliseconds // 3_600_000} h"


def states() -> str:
    """The states of a request and the moves between them."""
    rows = [
        [f"`{state}`", ", ".join(f"`{move}`" for move in sorted(LEGAL_MOVES[state])) or "none"]
        for state in (WAITING, *Status)
    ]
    return (
        "# States of a request\n\nClients see `waiting` (a turn behind another) as `pending`. "
        "The database itself rejects any other move.\n\n" + table(["from", "to"], rows)
    )


def errors() -> str:
    """Every error code."""
    rows = [
        [
            f"`{code}`",
            str(kind.status),
            str(int(ending_status(code))),
            "yes" if kind.retryable else "no",
            kind.title,
        ]
        for code, kind in ERRORS.items()
    ]
    return (
        "# Errors\n\nThe `code` of a problem document or a failed request, and the reason of a dead letter.\n\n"
        "*Refused*: the HTTP status of a call that is rejected, also by the LLM service. *Waiting*: the status of a "
        "`POST /v1/messages` that waits for its reply, if the request was accepted and then ended with this code. "
        "As in the v0 API it is 502 for every fault of the model's side; the `code` distinguishes them. "
        "Everywhere else a failed request is a 200 or an event that contains the code.\n\n"
        "Responses with 429 or 503 have `Retry-After`. A 502 has none; if it is known how long a model will keep "
        "refusing, the `detail` says so.\n\n"
        + table(["code", "refused", "waiting", "retry can help", "meaning"], rows)
        + "\n## Below OpenAI's paths\n\n"
        'There an error is `{"error": {"message", "type", "param", "code"}}`. `error.code` is the code of the '
        "table above, and the status the one of *refused*, except:\n\n"
        + table(["code", "status", "`error.code`"], _openais_errors())
        + "\nOnce a request was accepted, faults of the request itself still have these statuses. All others are a 424 "
        "of the type `failed_dependency`. Every error then has `x-should-retry: false`, because OpenAI's clients would "
        "otherwise send the work again.\n"
    )


def _openais_errors() -> Iterator[list[str]]:
    for code, kind in ERRORS.items():
        status, body, _ = shape(OrchestraError(code))
        if (status, body["error"]["code"]) != (kind.status, code):
            yield [f"`{code}`", str(int(status)), f"`{body['error']['code']}`"]


def commands() -> str:
    """Every verb of the command line."""
    group = typer.main.get_command(build())
    assert isinstance(group, TyperGroup)
    return f"# Command line\n\n{group.help}\n\n" + "\n".join(_verbs("orchestra", group))


def _verbs(program: str, group: TyperGroup) -> Iterator[str]:
    for name, verb in group.commands.items():
        if not isinstance(verb, TyperGroup) or verb.invoke_without_command:
            yield _verb(f"{program} {name}", verb)
        if isinstance(verb, TyperGroup):
            yield from _verbs(f"{program} {name}", verb)


def _verb(name: str, verb: Any) -> str:
    pieces = verb.collect_usage_pieces(Context(verb))
    # The verbs below this one have parts of their own.
    usage = " ".join([name, *(piece for piece in pieces if piece != getattr(verb, "subcommand_metavar", None))])
    rows = [_parameter(each) for each in verb.params]
    parameters = "\n" + table(["argument", "default", "what"], rows) if rows else ""
    return f"## `{name}`\n\n{verb.help}\n\n    {usage}\n{parameters}"


def _parameter(parameter: Any) -> list[str]:
    names = parameter.opts if parameter.param_type_name == "option" else [parameter.name]
    # A default may be described in words if the value itself says little.
    shown = parameter.show_default if isinstance(parameter.show_default, str) else parameter.default
    default = "" if shown in (None, False) else f"`{shown}`"
    return [", ".join(f"`{name}`" for name in names), default, parameter.help or ""]


PAGES: dict[str, Callable[[], str]] = {
    "docs/reference/settings.md": settings,
    "docs/reference/metrics.md": metrics,
    "docs/reference/topics.md": topics,
    "docs/reference/states.md": states,
    "docs/reference/errors.md": errors,
    "docs/reference/commands.md": commands,
    "docs/reference/http.md": http_api.http,
    f"docs/reference/{http_api.BODIES}": http_api.bodies,
    "docs/reference/python.md": python_client.python,
    "deploy/example.env": example_environment,
}


def main(*arguments: str) -> int:
    """Write, or with `--check` compare. Returns the exit code."""
    stale = 0
    texts = {name: page() for name, page in PAGES.items()} | {f"deploy/{name}": text for name, text in files().items()}
    for name, fresh in texts.items():
        path = ROOT / name
        if path.exists() and path.read_text("utf-8") == fresh:
            continue
        if "--check" in arguments:
            print(f"{name} is not what the code says: run `make docs`", file=sys.stderr)
            stale = 1
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fresh, "utf-8")
    return stale


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
