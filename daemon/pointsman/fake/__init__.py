"""Fake LLM providers for tests, demonstrations and rehearsals of outages: real sockets, scripted failures."""

from pointsman.fake.faults import Fault, FaultError, Kind
from pointsman.fake.ledger import Ledger, Seen, Snapshot, digest
from pointsman.fake.provider import FakeProvider

__all__ = ["FakeProvider", "Fault", "FaultError", "Kind", "Ledger", "Seen", "Snapshot", "digest"]
