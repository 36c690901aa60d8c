"""The service manager's side of a process: readiness, reload, watchdog, status (sd_notify, without its library)."""

import os
import socket
import time


def notify(state: str) -> None:
    """Send `state` ("READY=1"; several lines at once are allowed) to the service manager, if there is one.

    A manager that does not listen is no reason to stop working, so nothing is raised.
    """
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
