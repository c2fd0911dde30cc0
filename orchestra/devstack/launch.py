"""Between a child's birth and its program: change the user, and tie the child's life to its parent's.

A program of its own, in nothing but the standard library; it becomes the command that it was given, with the same pid.
This is no ``preexec_fn``: code of ours between fork and exec can deadlock in a process with threads.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arguments: the parent's pid, the signal that follows its end, ``uid:gid`` or nothing, the command."""
    parent, orphan_signal, user, *command = sys.argv[1:]
    if user:
        uid, gid = map(int, user.split(":"))
        os.chdir("/")  # The present folder may be closed to that user.
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":  # After the change of user, which would clear it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent has gone")
    os.execv(command[0], command)  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    main()
