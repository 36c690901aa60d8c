"""`explain --at` and `replay`: what was decided, from the records of a real daemon."""

import re
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
from control_processes import Command, document_of, write
from msgspec.structs import replace

from pointsman.core import record as records
from pointsman.core.asked import Asked
from pointsman.core.evidence import Evidence
from pointsman.core.model import Decision, Note, State
from pointsman.store.client import Store
from pointsman.store.keys import Keys

Cli = Callable[..., Any]
Do = Callable[[Callable[[Store], Any]], Any]


@pytest.fixture
def in_store(store_url: str, keys: Keys) -> Do:
    """`in_store(do)`: await `do` with the daemon's store."""

    def run(do: Callable[[Store], Any]) -> Any:
        async def main() -> Any:
            async with Store.connect(store_url, keys, timeout_s=5.0) as store:
                return await do(store)

        return anyio.run(main)

    return run


@pytest.fixture
def moved(daemon: Command, cli: Cli, in_store: Do) -> float:
    """A route was moved to meta; when that was decided, by its record."""
    assert cli("weights", "set", "chat", "meta=100", "--reason", "moved").code == 0

    async def recorded(store: Store) -> float:
        while True:
            for entry in await store.records.before():
                if any("moved" in note.text for note in entry.record().came.notes):
                    return entry.time_s
            await anyio.sleep(0.01)

    return in_store(recorded)


def iso(moment_s: float) -> str:
    return datetime.fromtimestamp(moment_s).astimezone().isoformat(timespec="milliseconds")


def test_explain_then_and_just_before(moved: float, cli: Cli) -> None:
    """The shares and reasons of the moment, and what had just been decided; within 80 columns."""
    then = cli("explain", "chat", "--at", iso(moved))
    before = cli("explain", "chat", "--at", iso(moved - 0.01))

    assert then.code == 0, then
    assert "meta 100.00 %: 100 % by baseline" in then.out
    assert "bedrock 0.00 %" in then.out
    assert "falls over along: " in then.out
    assert "decided 0 s before:" in then.out
    assert "(moved)" in then.out
    assert "from a record 0 s older, by pointsman" in " ".join(then.out.split())
    assert "bedrock 50.00 %: 50 % by baseline" in before.out
    assert "moved" not in before.out
    assert max(map(len, then.out.splitlines())) <= 80


def test_explain_as_json(moved: float, cli: Cli) -> None:
    """The same for scripts, with the record's id."""
    seen = cli("explain", "chat", "--at", iso(moved), "--output", "json").json

    assert seen["at_s"] == pytest.approx(moved, abs=0.002)
    assert seen["record"]["id"].startswith(str(int(moved * 1000)))
    assert {target["target"]: target["share"] for target in seen["targets"]} == {
        "bedrock": 0.0,
        "google": 0.0,
        "meta": 100.0,
    }
    told = [
        one["kind"] for one in seen["decided"]["told"]
    ]  # the first probes' results may come in with the word
    assert "word.set_weights" in told
    assert told[-1] == "table.published"


@pytest.fixture
def history(moved: float, daemon: Command, in_store: Do) -> Callable[..., None]:
    """`history((7200, 1), (7100, 0))`: as if the last decisions had been made so many seconds ago, with so many notes.

    "strange" instead of the number of notes: something that is no record.
    """
    daemon.end()

    def write_down(*entries: tuple[float, int | str]) -> None:
        async def put(store: Store) -> None:
            now_s = await store.now_s()
            record = (await store.records.at(moved)).record()
            await store.clear()
            lease = await store.acquire("history", 60.0, 0)
            quiet = replace(record.came, table=None, notes=(), answers=())
            for ago_s, told in entries:
                at_s = now_s - ago_s
                count = 0 if isinstance(told, str) else told
                notes = tuple(
                    Note(at_s=at_s, kind="x", subject="meta" if n == 7 else "other", text=f"note {n}")
                    for n in range(count)
                )
                made = replace(record, at_s=at_s, published=record.in_force, came=replace(quiet, notes=notes))
                body = b"strange" if isinstance(told, str) else records.encode(made)
                await store.records.put(lease, at_s, body)

        in_store(put)

    return write_down


def test_a_quiet_record_tells_what_was_decided_last(history: Callable[..., None], cli: Cli) -> None:
    """However long ago, and that the record itself is old."""
    history((7200, 1), (7100, 0), (7000, 0), (600, 0))
    result = cli("explain", "chat", "--at", "10s")
    told = " ".join(result.out.split())

    assert result.code == 0, result
    assert "decided 1 h 59 min before: note 0" in told
    assert re.search(r"from a record 9 min 5\d s older", told)
    assert "! nobody decided in between, or nobody recorded it" in told
    assert "nobody decided" not in cli("explain", "chat", "--at", "9m50s").out


def test_of_many_notes_those_about_the_route_come_first(history: Callable[..., None], cli: Cli) -> None:
    """Ten are shown, the others counted; JSON has all."""
    history((60, 12))
    lines = cli("explain", "chat", "--at", "now").out.splitlines()
    first = next(number for number, line in enumerate(lines) if "decided " in line) + 1

    assert [line.strip() for line in lines[first : first + 11]] == [
        *(f"note {n}" for n in (7, 0, 1, 2, 3, 4, 5, 6, 8, 9)),
        "… and 2 more (--output json has all)",
    ]
    assert len(cli("explain", "chat", "--at", "now", "--output", "json").json["decided"]["told"]) == 12


@pytest.mark.parametrize("older", [(), ((70, "strange"),), ((9000, 1), *((100, 0),) * 61)])
def test_what_was_decided_too_long_ago_is_not_told(
    history: Callable[..., None], cli: Cli, older: tuple[tuple[float, int | str], ...]
) -> None:
    """Or was never recorded, or cannot be read: the shares and reasons are there all the same."""
    history(*older, (60, 0))
    seen = cli("explain", "chat", "--at", "now", "--output", "json").json
    result = cli("explain", "chat", "--at", "now")

    assert seen["decided"] is None
    assert "meta 100.00 %: 100 % by baseline" in result.out
    assert "decided" not in result.out


def test_no_record_so_old(moved: float, cli: Cli) -> None:
    """Exit code 1, with the span that is covered."""
    result = cli("explain", "chat", "--at", "2001-01-01 12:00:00")

    assert result.code == 1
    assert "no decision is recorded at 2001-01-01 12:00:00 or before: the records go from" in result.err
    assert f"{datetime.fromtimestamp(moved).astimezone():%Y-%m-%d}" in result.err


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("explain", "nowhere", "--at", "now"), 1, "there was no route 'nowhere' at"),
        (("explain", "chat", "--at", "2999-01-01"), 2, "is still to come"),
        (("explain", "chat", "--at", "soon"), 2, "write 14:03"),
        (("explain", "chat", "--at", "now", "--request-id", "x"), 2, "not about a request"),
        (("explain", "--at", "now"), 2, "name a route"),
        (("replay", "--at", "now", "--last", "3"), 2, "give one of them"),
        (("replay", "--at", "2001-01-01"), 1, "the records go from"),
    ],
)
def test_what_cannot_be_answered(
    moved: float, cli: Cli, arguments: tuple[str, ...], code: int, text: str
) -> None:
    """One sentence and its exit code."""
    result = cli(*arguments)

    assert (result.code, result.out) == (code, "")
    assert text in result.err


def test_a_store_without_records_says_so(cli: Cli, store_url: str, keys: Keys, tmp_path: Path) -> None:
    """Before any daemon has led, and where recording is turned off."""
    off = document_of(store_url, keys, tmp_path / "s", control={"records_mb": 0})
    path = write(tmp_path / "off.yaml", off)

    for command in (("replay",), ("explain", "chat", "--at", "now")):
        assert cli(*command).code == cli(*command, path=path).code == 1
        assert "no decision is recorded yet: is a daemon running?" in cli(*command).err
        assert "control.records_mb is 0" in cli(*command, path=path).err


def test_replay_of_what_this_version_decided(moved: float, cli: Cli) -> None:
    """Every decision comes out the same: a line each, oldest first, and exit code 0; within 80 columns."""
    result = cli("replay")
    seen = cli("replay", "--output", "json").json

    assert result.code == 0, result
    assert " same " in result.out
    assert "differs" not in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert seen["counts"]["same"] == len(seen["records"]) >= 2
    assert [row["at_s"] for row in seen["records"]] == sorted(row["at_s"] for row in seen["records"])
    assert cli("replay", "--last", "1", "--output", "json").json["counts"]["same"] == 1


def test_replay_of_one_moment(moved: float, cli: Cli) -> None:
    """Only the decision that was in force then."""
    (row,) = cli("replay", "--at", iso(moved), "--output", "json").json["records"]

    assert row["verdict"] == "same"
    assert "moved" in row["what"]


def test_a_changed_rule_is_found(moved: float, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that words its reasons otherwise: which decisions differ, in what, by whom, and exit code 1."""
    monkeypatch.setattr("pointsman.core.weights.percent", lambda share_bp: f"{share_bp} bp")
    result = cli("replay", "--at", iso(moved))

    assert result.code == 1
    assert " differs " in result.out
    assert "reason chat, meta: 100 % by baseline → 10000 bp by baseline" in result.out
    assert "(decided by pointsman 0.1.0, " in result.out
    assert "1 decided again by pointsman 0.1.0: 1 differs" in result.out


def test_records_that_cannot_be_replayed(
    moved: float, daemon: Command, cli: Cli, in_store: Do, keys: Keys
) -> None:
    """What another version or a stranger wrote is a failure; what a large fleet kept in brief is none."""
    daemon.end()

    async def brief(store: Store) -> None:
        asked = Asked(
            at_s=moved, epoch=7, published=None, published_s=0.0, state=State(), evidence=Evidence()
        )
        kept = records.record_of(asked, Decision(state=State(), table=None, reasons={}), "x")
        body = records.encode(replace(kept, state=None, evidence=None))
        await store._wire.write("XADD", keys.records, "*", "written", "0", "record", body)

    async def strange(store: Store) -> None:
        body = records.encode(msgspec.structs.replace((await store.records.before())[-1].record(), format=99))
        await store._wire.write("XADD", keys.records, "*", "written", "0", "record", body)

    in_store(brief)
    result = cli("replay", "--last", "1")
    assert result.code == 0, result
    assert "1 without evidence" in result.out
    in_store(strange)
    result = cli("replay", "--last", "2")
    assert result.code == 1
    assert "the record has format 99; this version reads 1" in result.out
    assert "1 unreadable, 1 without evidence" in result.out
    assert cli("explain", "chat", "--at", "now").code == 1
