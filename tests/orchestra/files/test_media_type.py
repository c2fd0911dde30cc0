"""Promises of orchestra/files/media_type.py: the bytes decide, and what they do not show is not guessed."""

import pytest

from orchestra.files.media_type import HEAD_BYTES, media_type


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "application/pdf"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "image/png"),
        (b"\xff\xd8\xff\xe0\0\x10JFIF\0", "image/jpeg"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "audio/x-wav"),
        (b'{"custom_id": "1"}\n', "text/plain; charset=utf-8"),
        ("naïve 中文\n".encode(), "text/plain; charset=utf-8"),
        (b"<!doctype html><script>alert(1)</script>", "text/plain; charset=utf-8"),
        (b"<svg onload='alert(1)'/>", "text/plain; charset=utf-8"),
        (b"\0\1\2\3", "application/octet-stream"),
        (b"caf\xe9", "application/octet-stream"),
    ],
)
def test_the_first_bytes_decide(head: bytes, kind: str) -> None:
    """A file has the type that its bytes show; nothing that a browser would run has a type of its own."""
    assert kind == media_type(head, whole=True)


def test_a_character_may_be_cut() -> None:
    """A long text whose head ends within a character is text; a whole file that ends so is not."""
    head = ("x" * (HEAD_BYTES - 1) + "é").encode()[:HEAD_BYTES]

    assert "text/plain; charset=utf-8" == media_type(head, whole=False)
    assert "application/octet-stream" == media_type(head, whole=True)
