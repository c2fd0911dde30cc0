"""Modules of the console that read and change bytes."""

from typing import Any

import pytest
from playwright.sync_api import Page


def edited(page: Page, type: str, data: str, start: int, end: int | None = None, *, inserts: bool = False) -> Any:
    """The dump of 0a 1b 2c after an input event, and where the cursor is."""
    files = page.evaluate("() => document.querySelector('script[type=module]').src.replace('main.js', '')")
    return page.evaluate(
        """async ([files, input]) => {
          const { dump, edit } = await import(`${files}hexedit.js`);
          const made = edit(Uint8Array.of(0x0a, 0x1b, 0x2c), input);
          return made && [dump(made.bytes, 16), made.caret];
        }""",
        [files, {"type": type, "data": data, "start": start, "end": start if end is None else end, "inserts": inserts}],
    )


def test_digits_change_bytes(page: Page) -> None:
    """A digit changes the one under the cursor, at the end or on request it makes a byte; nothing else is typed."""
    assert ["0a fb 2c", 4] == edited(page, "insertText", "f", 3)
    assert ["0a 1f 2c", 6] == edited(page, "insertText", "f", 4)
    assert ["0a 1b fc", 7] == edited(page, "insertText", "f", 5)
    assert ["0a 1b 2c f0", 10] == edited(page, "insertText", "f", 8)
    assert ["0a f0 1b 2c", 4] == edited(page, "insertText", "f", 3, inserts=True)
    assert ["0a 1f 2c", 6] == edited(page, "insertText", "f", 4, inserts=True)
    assert edited(page, "insertText", "x", 3) is None
    assert edited(page, "formatBold", "", 3) is None


def test_bytes_are_pasted_and_deleted(page: Page) -> None:
    """What is pasted goes between bytes or in the place of the selected ones; deleting takes whole bytes."""
    assert ["0a ff 00 1b 2c", 9] == edited(page, "insertFromPaste", "0xff 00", 3)
    assert ["0a ff 2c", 6] == edited(page, "insertFromPaste", "ff", 3, 5)
    assert ["ff", 3] == edited(page, "insertFromPaste", "ff", 0, 8)
    assert ["1b 2c", 0] == edited(page, "deleteContentBackward", "", 3)
    assert ["0a 2c", 3] == edited(page, "deleteContentBackward", "", 4)
    assert ["0a 1b", 6] == edited(page, "deleteContentForward", "", 6)
    assert ["2c", 0] == edited(page, "deleteByCut", "", 0, 5)
    assert edited(page, "deleteContentBackward", "", 0) is None
    assert edited(page, "deleteContentForward", "", 8) is None


def bytes_of(page: Page, module: str, function: str, *given: list[int]) -> Any:
    files = page.evaluate("() => document.querySelector('script[type=module]').src.replace('main.js', '')")
    return page.evaluate(
        """async ([path, name, given]) => {
          const made = (await import(path))[name](...given.map((each) => Uint8Array.from(each)));
          return made instanceof Uint8Array ? [...made] : made;
        }""",
        [f"{files}{module}.js", function, [list(each) for each in given]],
    )


@pytest.mark.parametrize(
    ("value", "bad"),
    [
        (b"Hello", []), ("é€😀\ufeff".encode(), []), (b"C\xe9line", [1]), (b"\xff\xfe", [0, 1]), (b"\xc3", [0]),
        (b"\xed\xa0\x80", [0, 1, 2]), (b"\xc0\x80", [0, 1]), (b"\xf4\x90\x80\x80a", [0, 1, 2, 3]),
    ],
)  # fmt: skip
def test_bytes_that_are_no_text_are_found(value: bytes, bad: list[int], page: Page) -> None:
    """Exactly those bytes are named that are part of no UTF-8 sequence, and read as Latin-1 the value is text."""
    assert bad == bytes_of(page, "bytes", "notText", [*value])
    repaired = bytes(bytes_of(page, "bytes", "repaired", [*value]))
    assert value.decode(errors="surrogateescape").translate({0xDC00 + each: each for each in range(128, 256)}) == (
        repaired.decode()
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"C\xe9line", "Céline".encode()), (b"", b"abc"), (b"abc", b""), (b"abcdef", b"axcyef"), (b"same", b"same"),
        (b"a" * 3000 + b"x" + b"b" * 3000, b"a" * 3000 + b"y" + b"b" * 3000), (bytes(range(256)) * 8, b"z" * 2000),
    ],
)  # fmt: skip
def test_a_difference_leads_from_one_to_the_other(before: bytes, after: bytes, page: Page) -> None:
    """Without what is new a difference is the old value, without what is gone the new one."""
    pieces = bytes_of(page, "diff", "difference", [*before], [*after])
    for value, other in ((before, "new"), (after, "gone")):
        shown = "".join(each["text"] for each in pieces if each["kind"] not in {other, "left_out"})
        left_out = sum(int(each["text"]) for each in pieces if each["kind"] == "left_out")
        whole = bytes_of(page, "diff", "characters", [*value])
        assert len("".join(whole)) == len(shown) + left_out
        assert left_out or "".join(whole) == shown
