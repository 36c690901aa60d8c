"""The service manager's side of a process: readiness, reload, watchdog, status (sd_notify, without its library)."""

import os
import socket
import time

_instead: socket.socket | None = None


def redirect(line: socket.socket) -> None:
    """From now on states go to `line`, each with a line break at its end: to a parent, who speaks for its children."""
    global _instead  # noqa: PLW0603 - a process has one service manager
    _instead = line


def notify(state: str) -> None:
    """Send `state` ("READY=1"; several lines at once are allowed) to the service manager, if there is one.

    A manager that does not listen is no reason to stop working, so nothing is raised.
    """
    if _instead is not None:
        try:
            _instead.send(f"{state}\n".encode(), socket.MSG_DONTWAIT)
        except OSError:
            return
        return
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setblocking(False)
        try:
            manager.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return


def reloading() -> str:
    """What announces a reload: systemd wants the moment with it, to tell two reloads apart."""
    return f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}"
