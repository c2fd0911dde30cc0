"""``python -m docs.site``: build the documentation into ``.cache/site/html`` (``make site``).

It needs nothing but Python and uv: what builds the pages is installed below ``.cache/site``.
"""

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from docs.site.check import problems
from docs.site.stage import SiteError, Stage
from tests.browser.environment import browser, python
from tests.support.environments import MissingError, node_of, python_of, run
from tests.support.tree import ROOT

HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".cache/site"
HTML = CACHE / "html"
SHOTS = CACHE / "shots"


def main() -> None:
    """Exit code 1 if a link, an anchor or a page leads nowhere, or anything else is not as it must be."""
    told = _arguments().parse_args()
    try:
        python = python_of(HERE / "requirements.lock", CACHE / "python")
        node_of(python.parent, HERE, CACHE / "node")
        Stage(ROOT, CACHE / "sources").write()
        shutil.rmtree(HTML, ignore_errors=True)
        sphinx = [python, "-m", "sphinx", "-qnW", "--keep-going", "-d", CACHE / "doctrees", "-c", HERE]
        run([*sphinx, CACHE / "sources", HTML])
    except (MissingError, SiteError) as error:
        sys.exit(str(error))
    if found := problems(HTML):
        sys.exit("\n".join(found))
    print(f"the site: {(HTML / 'index.html').relative_to(ROOT)}", flush=True)
    if told.look:
        _look()
    if told.serve:
        _serve(told.port)


def _look() -> None:
    """Look at it in a browser. Exits if anything is not as it must be, or there is no browser."""
    try:
        program, chromium = python(), browser()
    except MissingError as error:
        sys.exit(str(error))
    shutil.rmtree(SHOTS, ignore_errors=True)
    SHOTS.mkdir(parents=True)
    env = {**os.environ, "SITE_HTML": str(HTML), "SITE_SHOTS": str(SHOTS), "CHROMIUM": str(chromium)}
    tests = ROOT / "tests/site"
    command = [program, "-m", "pytest", "-c", tests / "pytest.ini", "--confcutdir", tests, tests]
    done = subprocess.run([*map(str, command)], cwd=tests, env=env, check=False)
    print(f"screenshots: {SHOTS.relative_to(ROOT)}", flush=True)
    if done.returncode:
        sys.exit(done.returncode)


def _serve(port: int) -> None:
    handler = partial(SimpleHTTPRequestHandler, directory=str(HTML))
    with ThreadingHTTPServer(("127.0.0.1", port), handler) as server, suppress(KeyboardInterrupt):
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m docs.site", description="Build the documentation, and check it.")
    parser.add_argument("--look", action="store_true", help="look at it in a browser, as `make browser` does")
    parser.add_argument("--serve", action="store_true", help="show it to this machine until Ctrl-C")
    parser.add_argument("--port", type=int, default=0, help="where; default: a free port")
    return parser


if __name__ == "__main__":
    main()
