"""Numbers and times as text."""

from datetime import datetime

from schemas.api.queue import Count

_MINUTE = 60
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_THOUSANDS = ((10**9, "G"), (10**6, "M"), (10**3, "k"))
_MANY = 10_000


def clock(moment: datetime) -> str:
    """A time in UTC, without parts of a second."""
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def day_and_minute(moment: datetime) -> str:
    """A time of the last weeks in UTC, where there is little room."""
    return moment.strftime("%m-%d %H:%M")


def span(seconds: float | None) -> str:
    """A length of time in the unit that fits."""
    if seconds is None:
        return "-"
    for unit, size in (("d", _DAY), ("h", _HOUR), ("min", _MINUTE)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.1f} s"


def brief(seconds: float | None) -> str:
    """A length of time in at most six characters."""
    if seconds is None or seconds < 10:
        return span(seconds)
    for unit, size in (("s", 1), ("min", _MINUTE), ("h", _HOUR)):
        if seconds < 100 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / _DAY:.0f} d"


def counted(count: Count) -> str:
    """A count with a limit: `500+` where there may be more."""
    return f"{count.count:,}{'+' * count.more}"


def compact(number: int) -> str:
    """A number in at most six characters: 1,234, 12.3k, 1.2M."""
    if number < _MANY:
        return f"{number:,}"
    size, unit = next(each for each in _THOUSANDS if number >= each[0])
    return f"{number / size:.{1 if number < 100 * size else 0}f}{unit}"
