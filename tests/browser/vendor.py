"""``python -m tests.browser.vendor``: the console's third-party files, out of their packages (``make vendor``).

The lock names each package's version, the integrity of its archive as the registry has it, and the hash of each file.
With ``--check`` nothing is written: it fails if the archives have other files than the folder.
"""

import base64
import hashlib
import json
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from tests.browser.environment import npm
from tests.support.environments import MissingError, run
from tests.support.tree import ROOT

FOLDER = ROOT / "gateway/console/vendor"
LOCK = FOLDER / "vendor.lock.json"
LICENSES = FOLDER / "LICENSES.md"


def main() -> None:
    """Write the files, the lock and the licences."""
    lock = json.loads(LOCK.read_text("utf-8"))
    wrong = []
    texts = ["# Licences\n\nThe files in this folder are copies out of these packages, unchanged.\n"]
    with tempfile.TemporaryDirectory() as folder:
        for each in lock["packages"]:
            members = _archive(each, Path(folder))
            licence = next(text for name, text in members.items() if Path(name).name.upper().startswith("LICEN"))
            texts.append(f"\n## {each['package']} {each['version']}\n\n```text\n{licence.decode().strip()}\n```\n")
            for file in each["files"]:
                data = members[f"package/{file['path']}"]
                file["sha256"] = hashlib.sha256(data).hexdigest()
                wrong += _put(FOLDER / file["name"], data)
    wrong += _put(LICENSES, "".join(texts).encode())
    wrong += _put(LOCK, (json.dumps(lock, indent=2) + "\n").encode())
    if wrong:
        sys.exit(f"not as in their packages: {', '.join(wrong)}; run make vendor")


def _archive(package: dict[str, Any], folder: Path) -> dict[str, bytes]:
    """The files of a package's archive. The integrity is that of the lock, if it has one."""
    wanted = f"{package['package']}@{package['version']}"
    (told,) = json.loads(run([npm(), "pack", wanted, "--json", "--pack-destination", folder], folder))
    path = folder / told["filename"]
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if package.setdefault("integrity", integrity) != integrity:
        raise MissingError(f"{wanted}: the archive is not the one of the lock")
    with tarfile.open(path) as archive:
        return {each.name: archive.extractfile(each).read() for each in archive if each.isfile()}  # type: ignore[union-attr]


def _put(path: Path, data: bytes) -> list[str]:
    """Write a file, or name it if it differs."""
    if "--check" in sys.argv:
        return [] if path.exists() and path.read_bytes() == data else [path.name]
    path.write_bytes(data)
    return []


if __name__ == "__main__":
    try:
        main()
    except MissingError as error:
        sys.exit(str(error))
