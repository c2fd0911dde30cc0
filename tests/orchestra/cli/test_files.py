"""`orchestra files` against a gateway that follows a script."""

import json
from pathlib import Path

import pytest

from tests.support.scripted_gateway import ScriptedGateway

ID = "file-" + "0" * 32
FILE = {
    "id": ID, "object": "file", "bytes": 4, "created_at": 1769860800, "expires_at": 1772452800, "filename": "a.txt",
    "purpose": "user_data", "status": "processed",
}  # fmt: skip


@pytest.fixture
def script(script: ScriptedGateway) -> ScriptedGateway:
    return script.of("files", root="/v1/files")


async def test_an_upload_prints_the_id_alone(script: ScriptedGateway, tmp_path: Path) -> None:
    """The bytes go as they are, with their purpose; standard output is the id."""
    (tmp_path / "a.txt").write_bytes(b"\xffdata")
    script.answers["POST "] = FILE

    done = await script.orchestra("upload", str(tmp_path / "a.txt"), "--purpose", "vision")

    assert (0, f"{ID}\n") == (done.status, done.output), done.stderr
    assert [("POST ", {"purpose": "vision", "file": b"\xffdata"})] == script.asked


async def test_a_list_follows_pages_up_to_the_limit(script: ScriptedGateway) -> None:
    """Filters go along; with --json the files come out as they are."""
    pages = [{"data": [FILE], "has_more": True}, {"data": [{**FILE, "id": "file-2", "owner": "ann"}], "has_more": True}]
    script.answers["GET "] = [*pages, *pages]

    shown = await script.orchestra("list", "--purpose", "batch", "--limit", "2")
    listed = await script.orchestra("list", "--limit", "2", "--json")

    assert all(text in shown.output for text in (ID, "file-2", "a.txt", "4 bytes", "2026-01-31 12:00", "of ann"))
    assert [FILE, {**FILE, "id": "file-2", "owner": "ann"}] == json.loads(listed.output)
    assert [{"purpose": "batch", "limit": "2"}, {"purpose": "batch", "after": ID, "limit": "2"}] == [
        asked for _, asked in script.asked[:2]
    ]


async def test_an_empty_list_says_so(script: ScriptedGateway) -> None:
    """Where there are none, or none for this purpose, the list is a sentence."""
    script.answers["GET "] = {"data": [], "has_more": False}

    told = [(await script.orchestra("list", *words)).output for words in ((), ("--purpose", "batch"))]

    assert ["no files\n", "no such files\n"] == told


async def test_a_file_is_shown(script: ScriptedGateway) -> None:
    """Its name gives the terminal no orders."""
    script.answers[f"GET /{ID}"] = {**FILE, "filename": "a\x1b[2J", "owner": ""}

    done = await script.orchestra("show", ID)

    assert all(text in done.output for text in (ID, "a[2J", "user_data", "2026-03-02 12:00", "the tenant"))
    assert "\x1b" not in done.output


async def test_a_download_has_the_files_own_name(script: ScriptedGateway, tmp_path: Path) -> None:
    """It is written into the current folder, replaces nothing unless forced, and `-` is standard output."""
    script.answers = {f"GET /{ID}": FILE, f"GET /{ID}/content": b"\xffdata"}

    done = await script.orchestra("download", ID, folder=tmp_path)
    again = await script.orchestra("download", ID, folder=tmp_path)
    forced = await script.orchestra("download", ID, "--force", folder=tmp_path)
    piped = await script.orchestra("download", ID, "-o", "-", folder=tmp_path)

    assert [0, 1, 0, 0] == [each.status for each in (done, again, forced, piped)]
    assert "a.txt exists" in again.stderr
    assert b"\xffdata" == piped.stdout
    assert {"a.txt": b"\xffdata"} == {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "..", ""])
async def test_a_download_stays_in_its_folder(script: ScriptedGateway, tmp_path: Path, name: str) -> None:
    """A name that leads elsewhere is refused."""
    script.answers = {f"GET /{ID}": {**FILE, "filename": name}, f"GET /{ID}/content": b"x"}

    done = await script.orchestra("download", ID, folder=tmp_path)

    assert (1, True) == (done.status, "--output" in done.stderr)
    assert [] == list(tmp_path.iterdir())


async def test_a_download_that_fails_leaves_nothing(script: ScriptedGateway, tmp_path: Path) -> None:
    """The error is shown, and no file appears."""
    script.answers[f"GET /{ID}"] = FILE

    done = await script.orchestra("download", ID, folder=tmp_path)

    assert (1, "not_found: because\n") == (done.status, done.stderr)
    assert [] == list(tmp_path.iterdir())


async def test_deleting_goes_on_after_a_failure(script: ScriptedGateway) -> None:
    """Each file is tried; the exit code says that one was not deleted."""
    script.answers[f"DELETE /{ID}"] = {"id": ID, "object": "file", "deleted": True}

    done = await script.orchestra("delete", "file-x", ID)

    assert (1, "file-x: not_found: because\n1 deleted, 1 not\n") == (done.status, done.stderr)


async def test_what_is_no_gateway(script: ScriptedGateway, tmp_path: Path) -> None:
    """An answer that no gateway gives is an error, and so is a file that cannot be read."""
    script.answers["GET "] = {"files": []}

    strange = await script.orchestra("list")
    missing = await script.orchestra("upload", str(tmp_path / "none"))

    assert [1, 1] == [strange.status, missing.status]
    assert "did not answer like a gateway" in strange.stderr
    assert "No such file" in missing.stderr
