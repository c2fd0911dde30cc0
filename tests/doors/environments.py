"""Where the tours run: environments of their own below `.cache`, made at the versions and hashes of the locks here."""

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.tree import ROOT

HERE = Path(__file__).parent
TOURS = HERE / "tours"
CACHE = ROOT / ".cache/doors"
_UV = ROOT / ".bootstrap/bin/uv"
_OPEN_RESPONSES = "https://github.com/openresponses/openresponses"
# To install or fetch something.
_SECONDS = 600.0
_COMMIT = "0cb939ccf839234347b4f0c317569b49fad8fd0e"


class MissingError(Exception):
    """A part of an environment cannot be had on this machine; the text says which, and why."""


def python(lock: str = "requirements.lock") -> Path:
    """The interpreter of the environment with what this lock names."""
    folder = CACHE / Path(lock).stem
    made = folder / ".lock"
    wanted = (HERE / lock).read_text("utf-8")
    if not made.exists() or made.read_text("utf-8") != wanted:
        print(f"installing {lock} into {folder.relative_to(ROOT)}", flush=True)
        _run([_UV, "venv", "--quiet", "--clear", "--python", ROOT / ".bootstrap/bin/python", folder])
        python = folder / "bin/python"
        _run([_UV, "pip", "install", "--quiet", "--python", python, "--require-hashes", "--requirement", HERE / lock])
        made.write_text(wanted, "utf-8")
    return folder / "bin/python"


def node() -> tuple[Path, Path]:
    """A Node.js, which the first environment has, and the folder with the packages and a copy of the tours."""
    bin, folder = python().parent, CACHE / "node"
    lock = (HERE / "package-lock.json").read_text("utf-8")
    made = folder / ".lock"
    if not made.exists() or made.read_text("utf-8") != lock:
        print(f"installing package-lock.json into {folder.relative_to(ROOT)}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, folder)
        # No package runs a script: esbuild's binary comes as a package of its own.
        env = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        _run([bin / "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], folder, env)
        made.write_text(lock, "utf-8")
    for tour in TOURS.glob("*.mjs"):
        shutil.copy(tour, folder)
    return bin / "node", folder


def open_responses() -> Path:
    """The compliance tests of Open Responses as one script, from their repository at a fixed commit.

    OPEN_RESPONSES_DIR names a checkout to use instead. Raises ``MissingError`` if the repository cannot be reached.
    """
    program, folder = node()
    source = Path(os.environ.get("OPEN_RESPONSES_DIR") or CACHE / f"open-responses-{_COMMIT[:12]}")
    if not (source / "src/lib/compliance-tests.ts").exists():
        print(f"fetching {_OPEN_RESPONSES}", flush=True)
        _run(["git", "init", "--quiet", source])
        _run(["git", "-C", source, "fetch", "--quiet", "--depth", "1", _OPEN_RESPONSES, _COMMIT])
        _run(["git", "-C", source, "checkout", "--quiet", "--detach", "FETCH_HEAD"])
    script = folder / "open-responses.mjs"
    # Their tests are written for version 3 of zod, which is another package here, and for another bundler's imports.
    options = ["--bundle", "--platform=node", "--format=esm", "--log-level=error", f"--outfile={script}"]
    zod = folder / "node_modules/zod-3/index.js"
    _run([program, folder / "node_modules/esbuild/bin/esbuild", source / "src/lib/compliance-tests.ts", *options,
          f"--alias:zod={zod}"], folder)  # fmt: skip
    return script


def _run(command: Sequence[str | Path], folder: Path = ROOT, env: dict[str, str] | None = None) -> None:
    name = " ".join(Path(word).name for word in map(str, command[:3]))
    try:
        done = subprocess.run(
            [*map(str, command)], cwd=folder, env=env, capture_output=True, text=True, check=False, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise MissingError(f"{name}: not done within {_SECONDS:.0f} s") from None
    if done.returncode:
        raise MissingError(f"{name}: {(done.stderr or done.stdout).strip()[-500:]}")
