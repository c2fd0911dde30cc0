"""FILES_URL → the home of files."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestra.files.folder import Folder
from orchestra.files.home import FileHome
from orchestra.settings import FileSettings


def open_home(settings: FileSettings) -> FileHome | None:
    """The home of files, which need not be reachable yet; None if there is none."""
    if settings.files_url is None:
        return None
    parts = urlsplit(settings.files_url)
    if parts.scheme == "file":
        return Folder(Path(unquote(parts.path)))
    from orchestra.files.bucket import Bucket  # noqa: PLC0415 (its library is large, and few deployments need it)

    return Bucket(settings, parts.netloc, unquote(parts.path).strip("/"))
