"""``python -m tests.browser``: each page of the console in a real browser, on a real stack (``make browser``)."""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress

from tests.browser import typescript
from tests.browser.environment import CACHE, HERE, browser, python
from tests.browser.stack import DATA, ORCHESTRA, running
from tests.support.environments import MissingError
from tests.support.tree import ROOT

SHOTS = CACHE / "shots"


def main() -> None:
    """Exit code 1 if anything is not as it must be, or cannot be looked at."""
    told, rest = _arguments().parse_known_args()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.default_int_handler)  # However it ends, the stack is taken down.
    if told.serve:
        _serve(told.port_base)
        return
    try:
        if not told.no_types:
            typescript.check()
        program, chromium = python(), browser()
    except MissingError as error:
        sys.exit(str(error))
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    with nullcontext(_given(told.url)) if told.url else running(told.port_base) as (url, seen):
        _note(seen)
        env = {
            **{name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")},
            "CONSOLE_URL": url,
            "CONSOLE_SEEN": json.dumps(seen),
            "CONSOLE_SHOTS": str(SHOTS),
            "CONSOLE_FOLDER": str(ROOT / "gateway/console"),
            "CONSOLE_STACK": str(DATA),
            "CHROMIUM": str(chromium),
            "PATH": os.pathsep.join([str(ORCHESTRA.parent), os.environ["PATH"]]),
        }
        command = [program, "-m", "pytest", "-c", HERE / "pytest.ini", "--confcutdir", HERE, *(rest or [HERE])]
        done = subprocess.run([*map(str, command)], cwd=HERE, env=env, check=False)
    print(f"screenshots: {SHOTS.relative_to(ROOT)}", flush=True)
    sys.exit(done.returncode)


def _serve(port_base: int | None) -> None:
    with running(port_base) as (url, seen), suppress(KeyboardInterrupt):
        _note(seen)
        print(f"{url}/console", flush=True)
        signal.pause()


def _note(seen: dict[str, object]) -> None:
    (CACHE / "seen.json").write_text(json.dumps(seen), "utf-8")


def _given(url: str) -> tuple[str, dict[str, object]]:
    """A stack that runs already, as the last one was filled."""
    return url, json.loads((CACHE / "seen.json").read_text("utf-8"))


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.browser", description=__doc__, epilog="All other arguments are those of pytest."
    )
    parser.add_argument("--port-base", type=int, metavar="PORT", help="first of the stack's ports; default: free ones")
    parser.add_argument("--serve", action="store_true", help="start a stack, fill it, and keep it until Ctrl-C")
    parser.add_argument("--url", help="use this gateway, of the stack of a `--serve`")
    parser.add_argument("--no-types", action="store_true", help="do not check the types of the JavaScript")
    return parser


if __name__ == "__main__":
    main()
