"""Where the tours run: environments of their own below `.cache`, made at the versions and hashes of the locks here."""

import os
import shutil
from pathlib import Path

from tests.support.environments import node_of, python_of, run
from tests.support.tree import ROOT

HERE = Path(__file__).parent
TOURS = HERE / "tours"
CACHE = ROOT / ".cache/doors"
_OPEN_RESPONSES = "https://github.com/openresponses/openresponses"
_COMMIT = "0cb939ccf839234347b4f0c317569b49fad8fd0e"


def python(lock: str = "requirements.lock") -> Path:
    """The interpreter of the environment with what this lock names."""
    return python_of(HERE / lock, CACHE / Path(lock).stem)


def node() -> tuple[Path, Path]:
    """A Node.js, which the first environment has, and the folder with the packages and a copy of the tours."""
    folder = CACHE / "node"
    program = node_of(python().parent, HERE, folder)
    for tour in TOURS.glob("*.mjs"):
        shutil.copy(tour, folder)
    return program, folder


def open_responses() -> Path:
    """The compliance tests of Open Responses as one script, from their repository at a fixed commit.

    OPEN_RESPONSES_DIR names a checkout to use instead. Raises ``MissingError`` if the repository cannot be reached.
    """
    program, folder = node()
    source = Path(os.environ.get("OPEN_RESPONSES_DIR") or CACHE / f"open-responses-{_COMMIT[:12]}")
    if not (source / "src/lib/compliance-tests.ts").exists():
        print(f"fetching {_OPEN_RESPONSES}", flush=True)
        run(["git", "init", "--quiet", source])
        run(["git", "-C", source, "fetch", "--quiet", "--depth", "1", _OPEN_RESPONSES, _COMMIT])
        run(["git", "-C", source, "checkout", "--quiet", "--detach", "FETCH_HEAD"])
    script = folder / "open-responses.mjs"
    # Their tests are written for version 3 of zod, which is another package here, and for another bundler's imports.
    options = ["--bundle", "--platform=node", "--format=esm", "--log-level=error", f"--outfile={script}"]
    zod = folder / "node_modules/zod-3/index.js"
    run([program, folder / "node_modules/esbuild/bin/esbuild", source / "src/lib/compliance-tests.ts", *options,
          f"--alias:zod={zod}"], folder)  # fmt: skip
    return script
