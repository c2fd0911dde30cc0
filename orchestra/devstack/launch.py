"""Runs between fork and the part's program: changes the user and ties the child's life to its parent's.

A separate program that uses only the standard library. It replaces itself with the given command, under the same pid.
This is not a ``preexec_fn``: Python code between fork and exec can deadlock in a process with threads.
"""

import ctypes
import os
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Arguments: the parent's pid, the signal to send when it ends, ``uid:gid`` or nothing, the command."""
    parent, orphan_signal, user, *command = sys.argv[1:]
    if user:
        uid, gid = map(int, user.split(":"))
        os.chdir("/")  # That user may have no access to the current folder.
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if sys.platform == "linux":  # After the change of user, which clears it.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(orphan_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit("the parent has gone")
    os.execv(command[0], command)  # noqa: S606 - without a shell, on purpose


if __name__ == "__main__":
    main()
