"""Runs a program that dies with its parent: python leash.py <parent's pid> <program> <arguments …>

A script of its own and not a hook between fork and exec, which is not safe in a process with threads. Elsewhere
than on Linux there is no such leash; embedded.py then ends what was left over when it starts.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def leashed(command: list[str]) -> list[str]:
    """The command line by which `command` dies with this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(parent: int, command: list[str]) -> None:
    """Become `command`, unless the parent has gone meanwhile: nobody would ever end it then."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.execv(command[0], command)  # noqa: S606 - the point is to have no shell


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
