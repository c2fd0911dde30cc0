"""``python -m tests.doors``: try every call of the OpenAI API with other people's clients (``make doors``)."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from tests.doors.environments import CACHE, TOURS, node, open_responses, python
from tests.doors.stack import running
from tests.support.environments import MissingError


@dataclass
class Outcome:
    """What became of one tour. ``missing``: why it did not run; ``differences``: call and difference."""

    checks: int = 0
    seconds: float = 0.0
    missing: str = ""
    differences: list[tuple[str, str]] = field(default_factory=list)


def _in_python(name: str, lock: str = "requirements.lock") -> Callable[[], list[Path]]:
    return lambda: [python(lock), TOURS / name]


def _in_node(name: str, needs: Callable[[], object] = lambda: None) -> Callable[[], list[Path]]:
    def command() -> list[Path]:
        needs()
        program, folder = node()
        return [program, folder / name]

    return command


# Characters of a difference.
_MAX_SHOWN = 1000
# By name, the command of each; the first two are OpenAI's own.
_TOURS: dict[str, Callable[[], list[Path]]] = {
    "openai-python": _in_python("tour_openai.py"),
    "openai-js": _in_node("tour_openai.mjs"),
    "ai-sdk": _in_node("tour_ai_sdk.mjs"),
    "open-responses": _in_node("tour_open_responses.mjs", needs=open_responses),
    "open-responses-types": _in_python("tour_open_responses.py"),
    "agents-sdk": _in_python("tour_agents_sdk.py"),
    "pydantic-ai": _in_python("tour_pydantic_ai.py"),
    "langchain": _in_python("tour_langchain.py"),
    "litellm": _in_python("tour_litellm.py"),
    "instructor": _in_python("tour_instructor.py", "requirements-instructor.lock"),
}


def main() -> None:
    """Exit code 1 if a check failed, or if a tour that ``--only`` names could not run."""
    told = _arguments().parse_args()
    names = told.only.split(",") if told.only else list(_TOURS)
    if strange := [name for name in names if name not in _TOURS]:
        sys.exit(f"unknown: {', '.join(strange)}; there are {', '.join(_TOURS)}")
    CACHE.mkdir(parents=True, exist_ok=True)
    commands = {name: _ready(_TOURS[name]) for name in names}
    outcomes: dict[str, Outcome] = {}
    try:
        with nullcontext(_environment()) if "DOOR_URL" in os.environ else running(told.port_base) as env:
            for name, command in commands.items():
                missing = isinstance(command, MissingError)
                outcomes[name] = Outcome(missing=str(command)) if missing else _tour(name, command, env, told.call)
    except subprocess.CalledProcessError as error:
        sys.exit(f"no stack: {error}")
    print(_table(outcomes))
    sys.exit(any(each.differences or (each.missing and told.only) for each in outcomes.values()))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.doors",
        description="Try every call of the OpenAI API with other people's clients, against a live stack. "
        "With DOOR_URL, DOOR_URL_2, GATEWAY_URL, DOOR_KEY and DOOR_OTHER_KEY in the environment no stack is started.",
    )
    parser.add_argument("--only", metavar="TOURS", help=f"comma-separated tours: {','.join(_TOURS)}")
    parser.add_argument("--call", metavar="TEXT", help="only the checks whose name contains this")
    parser.add_argument(
        "--port-base", type=int, metavar="PORT", help="the first of the stack's ports; default: free ones"
    )
    return parser


def _environment() -> dict[str, str]:
    names = ("DOOR_URL", "DOOR_URL_2", "GATEWAY_URL", "DOOR_KEY", "DOOR_OTHER_KEY")
    if missing := [name for name in names if name not in os.environ]:
        sys.exit(f"not in the environment: {', '.join(missing)}")
    return {name: os.environ[name] for name in names}


def _ready(command: Callable[[], list[Path]]) -> list[Path] | MissingError:
    try:
        return command()
    except MissingError as error:
        return error


def _tour(name: str, command: list[Path], env: dict[str, str], call: str | None) -> Outcome:
    """Run a tour, and print a line for each of its checks."""
    outcome, began = Outcome(), time.monotonic()
    # Each client takes the door from its arguments, as on the page, and nothing from the environment.
    clean = {
        key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy") and key[:7] != "OPENAI_"
    }
    log = CACHE / f"{name}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [*map(str, command), *([call] if call else [])],
            # LiteLLM would fetch its list of prices.
            env={**clean, **env, "LITELLM_LOCAL_MODEL_COST_MAP": "true"},
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            cwd=command[-1].parent,
        )
        for line in _lines(process):
            outcome.checks += 1
            difference = (line["difference"] or "")[:_MAX_SHOWN]
            print(f"{name}: {line['call']}: {difference or 'ok'}", flush=True)
            if difference:
                outcome.differences.append((line["call"], difference))
    if process.returncode or not (outcome.checks or call):
        tail = log.read_text("utf-8", "replace").strip()[-1500:]
        outcome.differences.append(("the whole tour", f"exit code {process.returncode} ({log})\n{tail}"))
        print(f"{name}: ended with exit code {process.returncode}; {log}\n{tail}", flush=True)
    outcome.seconds = time.monotonic() - began
    return outcome


def _lines(process: "subprocess.Popen[str]") -> Iterator[dict[str, str]]:
    """What the tour prints as JSON; libraries print other lines, which go by."""
    with process:
        for line in process.stdout or ():
            if line.startswith('{"call"'):
                yield json.loads(line)


def _table(outcomes: dict[str, Outcome]) -> str:
    width = max(map(len, outcomes))
    rows = [f"\n{'tour':{width}}  checks  failed  seconds"]
    for name, each in outcomes.items():
        rest = f"not run: {each.missing}" if each.missing else f"{len(each.differences):6}  {each.seconds:7.1f}"
        rows.append(f"{name:{width}}  {each.checks:6}  {rest}")
    for name, each in outcomes.items():
        rows += [f"\n{name}: {call}\n    {difference}" for call, difference in each.differences]
    return "\n".join(rows)


if __name__ == "__main__":
    main()
