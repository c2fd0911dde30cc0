"""What a service process asks of the machine, and of Python."""

import gc
import resource

_OPEN_FILES = 65_536
# Python looks after 700 new objects: a few requests' worth, and hundreds of requests in flight are looked through again
# and again (docs/decisions/0018).
_NEW_OBJECTS, _LOOKS_AT_THE_YOUNG = 20_000, 20


def most_open_files() -> int:
    """How many files a service process may have open: what we ask for, or what the machine gives if that is less."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)


def allow_many_connections() -> None:
    """Raise the soft limit of open files: each call and each stream takes one, and the usual limit is 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most_open_files()
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def look_for_garbage_rarely() -> None:
    """Look for cycles of objects less often, and never among those that are there now. Call it when all is set up."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, _LOOKS_AT_THE_YOUNG)
