"""The names of all settings, and the environment variables that look like a misspelt one."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import takewhile

import structlog
from pydantic_settings import BaseSettings

# Each has its settings in a module `settings`. They are imported by name: services do not import each other.
SERVICES = ("gateway", "workers", "llm_service")
# Read by the clients and the commands, and by tests through the services' hidden doors.
OTHERS = frozenset({"ORCHESTRA_GATEWAY", "ORCHESTRA_API_KEY", "FAILPOINTS", "KAFKA_FAULTS"})
# Shorter ones (HOST, PORT) are within two edits of too many names.
_MIN_LENGTH = 8
_MAX_EDITS = 2
_PREFIX = "ORCHESTRA_"
# What Kubernetes tells a pod about each Service of its namespace; the first of a Service's ports also as `NAME_PORT`.
_SERVICE_LINK = re.compile(r".+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")
# `OPENAI_API_KEY_2` and `DATABASE_URL2` are names of another of the same kind.
_NEXT_OF_A_KIND = re.compile(r"_\w+|\d+")


@dataclass(frozen=True)
class Suspect:
    """A variable that no part of the system reads. ``meant``: the setting whose name is close to its, if any is."""

    name: str
    meant: str | None

    def __str__(self) -> str:
        return f"{self.name} is not a setting" + (f": {self.meant} was probably meant" if self.meant else "")


def settings_of(service: str) -> type[BaseSettings] | None:
    """The settings of a service, one of ``SERVICES``. None if it is not installed here."""
    if not find_spec(service):
        return None
    module = import_module(f"{service}.settings")
    (found,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, BaseSettings) and each.__module__ == module.__name__
    )
    return found


def setting_names() -> frozenset[str]:
    """The names of the environment variables that any part of the system reads."""
    services = filter(None, map(settings_of, SERVICES))
    return OTHERS.union(name.upper() for service in services for name in service.model_fields)


def is_service_link(name: str, value: str) -> bool:
    """Whether Kubernetes, not an operator, has set this variable, for a Service of the namespace."""
    return bool(_SERVICE_LINK.fullmatch(name) or (name.endswith("_PORT") and _LINK_VALUE.match(value)))


def suspects(environment: Mapping[str, str]) -> list[Suspect]:
    """Unknown variables that begin with ``ORCHESTRA_`` or are within two edits of a setting, sorted by name."""
    names = setting_names()
    strangers = {
        name
        for name, value in environment.items()
        if name.isidentifier() and name.upper() not in names and not is_service_link(name.upper(), value)
    }
    found = (Suspect(name, _meant(name.upper(), names)) for name in sorted(strangers))
    return [each for each in found if each.meant or each.name.upper().startswith(_PREFIX)]


def warn_of_suspects(environment: Mapping[str, str]) -> None:
    """Log one warning for each of the ``suspects``, without its value."""
    log = structlog.get_logger()
    for each in suspects(environment):
        log.warning("unknown_setting", setting=each.name, meant=each.meant)


def _meant(name: str, names: frozenset[str]) -> str | None:
    for stated in (name, name.removeprefix(_PREFIX)):
        if stated in names:
            return stated
        for edits in range(1, _MAX_EDITS + 1):
            if close := next(_within(stated, names, edits), None):
                return close
    return None


def _within(name: str, names: frozenset[str], edits: int) -> Iterator[str]:
    for setting in sorted(names):
        another = name.startswith(setting) and _NEXT_OF_A_KIND.fullmatch(name, len(setting))
        if len(setting) >= _MIN_LENGTH and not another and _differ_by(name, setting, edits):
            yield setting


def _differ_by(one: str, other: str, edits: int) -> bool:
    """Whether at most this many characters are to be added, left out or replaced."""
    if abs(len(one) - len(other)) > edits:
        return False
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
    one, other = one[same:], other[same:]
    if not (one or other) or not edits:
        return one == other
    pairs = (one[1:], other[1:]), (one[1:], other), (one, other[1:])
    return any(_differ_by(*pair, edits - 1) for pair in pairs)
