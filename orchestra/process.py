"""Process-wide settings: limit of open files, garbage collection."""

import gc
import resource

_OPEN_FILES = 65_536
# By default Python collects after 700 new objects, which is a few requests' worth; with hundreds of requests in flight
# it would scan them again and again (docs/decisions/0018).
_NEW_OBJECTS, _LOOKS_AT_THE_YOUNG = 20_000, 20


def max_open_files() -> int:
    """How many files a service process may open: what we ask for, or what the machine allows if that is less."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)


def allow_many_connections() -> None:
    """Raise the soft limit of open files: each call and each stream takes one, and the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_open_files()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def look_for_garbage_rarely() -> None:
    """Collect reference cycles less often, and never the objects that exist now. Call it once set-up is complete."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _LOOKS_AT_THE_YOUNG)
