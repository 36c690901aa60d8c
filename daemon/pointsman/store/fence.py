"""The leader's side of scripts/fence.lua: what every fenced script is given, and what its refusal means."""

from typing import Any

from pointsman.store.errors import Fenced
from pointsman.store.records import Lease


def shown(name: bytes) -> str:
    """A name that anybody may have written, with "�" for what is no UTF-8."""
    return name.decode(errors="replace")


def fence_args(lease: Lease) -> list[str | int]:
    """The first arguments of a fenced script."""
    return [lease.owner, lease.epoch]


def check_fence(lease: Lease, reply: list[Any]) -> None:
    """Raise Fenced if `reply` says that the lease is not ours any more."""
    if reply[0] != b"FENCED":
        return
    holder, epoch = shown(reply[1]), shown(reply[2])
    if holder:
        raise Fenced(f"epoch {lease.epoch} of {lease.owner} may not write: {holder} leads with epoch {epoch}")
    raise Fenced(
        f"epoch {lease.epoch} of {lease.owner} may not write: its lease is over, and the last epoch is {epoch}: "
        "acquire the lease again"
    )
