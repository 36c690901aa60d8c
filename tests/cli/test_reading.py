"""The verbs that show something, and what they say when nothing answers."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from control_processes import Command, document_of, write

from pointsman.fake import FakeProvider
from pointsman.store.keys import Keys
from support import eventually

Cli = Callable[..., Any]


def test_status_shows_routes_leader_and_table(daemon: Command, cli: Cli) -> None:
    """Shares with bars, health, the leader's epoch, the version: within 80 columns."""
    result = cli("status")
    seen = cli("status", "--output", "json").json

    assert result.code == 0, result
    assert "50.00 %" in result.out
    assert f"epoch {seen['leader']['epoch']}" in result.out
    assert f"table {seen['table']['version']}" in result.out
    assert max(map(len, result.out.splitlines())) <= 80
    assert [target["target"] for target in seen["routes"]["chat"]["targets"]] == ["bedrock", "google", "meta"]


def test_status_warns_of_a_dead_fleet(daemon: Command, cli: Cli) -> None:
    """Nobody listens at the three providers: the daemon suspects its own way out, and status says so."""
    deadline = time.monotonic() + 15
    while "own way out is suspected" not in (result := cli("status")).out:
        assert time.monotonic() < deadline, result


def test_status_after_the_leader_is_gone(daemon: Command, cli: Cli) -> None:
    """The store still tells, and status says that nobody leads."""
    daemon.end()
    result = cli("status")

    assert result.code == 0, result
    assert "no daemon leads" in result.out


def test_explain_gives_a_reason_for_every_share(daemon: Command, cli: Cli) -> None:
    """Every target of the route has its sentence; an unknown route is exit code 1."""
    result = cli("explain", "chat")

    assert result.code == 0, result
    for target in ("bedrock 50.00 %: 50 % by baseline", "google 30.00 %", "meta 20.00 %"):
        assert target in result.out
    assert cli("explain", "nowhere").code == 1


def test_history_and_diff(daemon: Command, cli: Cli) -> None:
    """What was published, newest first, with what each changed; and the difference of any two."""
    cli("weights", "set", "chat", "meta=100", "--reason", "test")
    history = cli("table", "history", "--output", "json").json
    older, newer = history[-1]["version"], history[0]["version"]
    result = cli("table", "diff", older, newer)

    assert len(history) >= 2
    assert "meta 20 % → 100 %" in result.out
    assert "meta 20 % → 100 %" in cli("table", "history").out


def test_events_are_told_in_order(daemon: Command, cli: Cli) -> None:
    """The newest is last, --since looks back, JSON is one document a line."""
    cli("weights", "set", "chat", "meta=100", "--reason", "so that there is one")
    lines = cli("events", "--since", "1m", "--output", "json").out.splitlines()
    events = [json.loads(line) for line in lines]

    assert events[0]["kind"] == "word.apply_plan"
    assert any("so that there is one" in event["text"] for event in events)
    assert [event["id"] for event in events] == sorted(event["id"] for event in events)
    assert cli("events", "--since", "0s", "--output", "json").out == ""


def test_events_can_be_followed(daemon: Command, cli: Cli, config: Path) -> None:
    """--follow shows what happens next, at once, also through a pipe; Ctrl-C ends it without a traceback."""
    command = [sys.executable, "-m", "pointsman", "events", "--follow", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout is not None
        assert "apply_plan" in following.stdout.readline()
        cli("weights", "set", "chat", "meta=100", "--reason", "followed")
        while "followed" not in following.stdout.readline():
            pass
        following.send_signal(2)
        assert following.wait(10) == 130
        assert following.stderr is not None
        assert "Traceback" not in following.stderr.read()


def test_a_command_never_starts_a_store(cli: Cli, keys: Keys, tmp_path: Path) -> None:
    """With no store.url and no daemon: exit code 3, and what to do."""
    path = write(tmp_path / "c.yaml", document_of(None, keys, tmp_path / "s"))
    result = cli("status", path=path)

    assert result.code == 3
    assert "is one running? pointsman up" in result.err


@pytest.mark.parametrize(
    "arguments", [("status",), ("weights", "set", "chat", "meta=100", "--reason", "x"), ("events",)]
)
def test_an_unreachable_store_is_exit_code_3(
    cli: Cli, keys: Keys, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    """One sentence with the cure, no traceback."""
    path = write(tmp_path / "c.yaml", document_of("redis://127.0.0.1:1/0", keys, tmp_path / "s"))
    result = cli(*arguments, path=path)

    assert result.code == 3, result
    assert "store.url" in result.err
    assert "Traceback" not in result.err


def test_a_word_without_a_leader_is_not_said(daemon: Command, cli: Cli) -> None:
    """With no daemon to hear it, nothing is left behind that would act later."""
    daemon.end()
    result = cli("weights", "set", "chat", "meta=100", "--reason", "x")

    assert result.code == 3
    assert "nothing was changed" in result.err


def test_a_store_without_a_daemon_says_so(cli: Cli) -> None:
    """A fresh store: exit code 3 and how to begin."""
    result = cli("status")

    assert result.code == 3
    assert "pointsman up" in result.err


def test_a_missing_and_a_bad_file_are_exit_code_2(cli: Cli, tmp_path: Path) -> None:
    """Problems of the configuration stand with their place."""
    (tmp_path / "bad.yaml").write_text("providers: [")

    assert cli("status", path=tmp_path / "none.yaml").code == 2
    bad = cli("status", path=tmp_path / "bad.yaml")
    assert bad.code == 2
    assert "bad.yaml" in bad.err


def test_help_loads_nothing_heavy() -> None:
    """`pointsman --help` imports neither aiohttp nor redis nor the SDK of OpenTelemetry."""
    code = (
        "import sys\nfrom pointsman import cli\n"
        "heavy = {'aiohttp', 'redis', 'opentelemetry.sdk', 'pydantic', 'apscheduler'} & sys.modules.keys()\n"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


def test_every_command_documents_its_exit_codes(cli: Cli) -> None:
    """`--help` of a verb lists them."""
    for command in (
        ("status",),
        ("failover",),
        ("weights", "set"),
        ("table", "rollback"),
        ("provider", "drain"),
    ):
        result = cli(*command, "--help")
        assert "3 store or daemon unreachable" in result.out, command


def test_one_proxy_is_pinned_and_asked_without_a_daemon(
    commands: Callable[..., Command], cli: Cli, keys: Keys, store_url: str, tmp_path: Path
) -> None:
    """pin --proxy, a request that obeys it, explain --request-id, unpin: all with the daemon gone."""

    async def scenario() -> None:
        async with FakeProvider("one", "openai") as one, FakeProvider("two", "openai") as two:
            document = document_of(store_url, keys, tmp_path / "s") | {
                "providers": {
                    fake.name: {"family": "openai", "base_url": fake.base_url, "probe": {"generate": False}}
                    for fake in (one, two)
                },
                "targets": {name: {"provider": name, "model": "m"} for name in ("one", "two")},
                "routes": {"chat": {"weights": {"one": 100, "two": 0}}},
            }
            path = write(tmp_path / "c.yaml", document)
            control = commands("control", "--config", path)
            proxy = commands("proxy", "--config", path, "--name", "p1")
            async with aiohttp.ClientSession() as session:
                address = await eventually(lambda: address_of(proxy), timeout_s=15.0)
                await eventually(lambda: is_ready(session, address), timeout_s=15.0)
                control.end()

                async def run(*arguments: str) -> Any:
                    return await anyio.to_thread.run_sync(lambda: cli(*arguments, path=path))

                pinned = await run("pin", "chat", "two=100", "--proxy", "p1")
                assert pinned.code == 0, pinned
                body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
                async with session.post(f"http://{address}/v1/chat/completions", json=body) as answer:
                    assert answer.headers["x-pointsman-target"] == "two"
                    request_id = answer.headers["x-pointsman-request-id"]
                explained = await run("explain", "--request-id", request_id)
                assert explained.code == 0, explained
                assert "1. two" in explained.out
                assert (await run("unpin", "chat", "--proxy", "p1")).code == 0
                assert (await run("unpin", "chat", "--proxy", "p2")).code == 3

    anyio.run(scenario)


def test_a_provider_is_tried_without_a_daemon(cli: Cli) -> None:
    """Nobody listens: each probe with its reason, and exit code 1."""
    result = cli("provider", "test", "bedrock")

    assert result.code == 1
    assert "connection refused" in result.out
    assert cli("provider", "test", "nobody").code == 1


def test_what_is_watched_through_a_pipe_is_told_as_it_is(daemon: Command, config: Path) -> None:
    """`pointsman status --watch | …` tells each look when it is taken, and not the last one at the end."""
    command = [sys.executable, "-m", "pointsman", "status", "--watch", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        patience = threading.Timer(15.0, process.kill)
        patience.start()
        assert process.stdout is not None
        heads = [line for line, _ in zip(lines_with(process.stdout, "table "), range(2), strict=False)]
        process.kill()
        patience.cancel()

    assert len(heads) == 2


def lines_with(lines: Iterable[str], text: str) -> Iterator[str]:
    return (line for line in lines if text in line)


def address_of(proxy: Command) -> str:
    return proxy.log.partition("address: ")[2].partition(")")[0]


async def is_ready(session: aiohttp.ClientSession, address: str) -> bool:
    async with session.get(f"http://{address}/-/ready") as response:
        return response.status == 200
