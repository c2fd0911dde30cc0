"""The marker in a home of files: which deployment it belongs to, and that gateways and workers see the same one.

Workers delete blobs that no row of their Postgres names, so a home must never have two deployments.
"""

import asyncio
import hmac
from collections.abc import Sequence

from orchestra.files.home import FileHome, FilesUnavailableError

_PURPOSE = b"orchestra: home of files"
_LOOK_SECONDS = 0.2


class ForeignHomeError(Exception):
    """The home has the marker of another deployment."""

    def __init__(self) -> None:
        super().__init__(
            "FILES_URL belongs to another deployment: choose another place, or set ORCHESTRA_SECRET_OLD if the secret "
            "was changed"
        )


class UnmarkedHomeError(Exception):
    """No gateway has marked the home."""

    def __init__(self) -> None:
        super().__init__(
            "setting FILES_URL: no gateway has left its marker in this folder. Gateways and workers must see the same "
            "folder, and one gateway must have started; across machines use a shared file system or s3://"
        )


async def claim(home: FileHome, secrets: Sequence[bytes]) -> None:
    """Mark the home as that of the deployment with this secret. Raises ``ForeignHomeError``.

    ``secrets``: the present one, then the old one if there is one.
    """
    found, mine = await home.read_marker(), [_text(secret) for secret in secrets]
    if found is not None and found not in mine:
        raise ForeignHomeError
    if found != mine[0]:
        await home.write_marker(mine[0])


async def belongs(home: FileHome, secrets: Sequence[bytes]) -> bool:
    """Whether a gateway with one of these secrets has marked the home."""
    return await home.read_marker() in [_text(secret) for secret in secrets]


async def until_claimed(home: FileHome, secrets: Sequence[bytes], seconds: float) -> None:
    """Wait up to ``seconds`` for the marker of a gateway with one of these secrets.

    Raises ``UnmarkedHomeError`` if there is none then, ``ForeignHomeError`` if there is one of another deployment.
    """
    loop = asyncio.get_running_loop()
    limit, mine = loop.time() + seconds, [_text(secret) for secret in secrets]
    while (found := await _marker_if_known(home)) not in mine:
        if loop.time() >= limit:
            raise UnmarkedHomeError if found is None else ForeignHomeError
        await asyncio.sleep(min(_LOOK_SECONDS, seconds))


async def _marker_if_known(home: FileHome) -> str | None:
    try:
        return await home.read_marker()
    except FilesUnavailableError:
        return None


def _text(secret: bytes) -> str:
    return hmac.digest(secret, _PURPOSE, "sha256").hex()
