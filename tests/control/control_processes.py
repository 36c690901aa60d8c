"""Configuration files and real processes, for tests of what an operator starts."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman.store.keys import Keys

NAMES = ("bedrock", "google", "meta")


def document_of(store_url: str | None, keys: Keys, state_dir: Path, **changes: Any) -> dict[str, Any]:
    """A configuration of three providers that nobody listens for, and quick ticks."""
    return {
        "environment": keys.environment,
        "state_dir": str(state_dir),
        "providers": {
            name: {
                "family": "openai",
                "base_url": f"http://127.0.0.1:{9 + place}/v1",
                "probe": {"reach_timeout_s": 1.0, "generate": False},
            }
            for place, name in enumerate(NAMES)
        },
        "targets": {name: {"provider": name, "model": f"{name}-1"} for name in NAMES},
        "routes": {"chat": {"weights": {"bedrock": 50, "google": 30, "meta": 20}}},
        "store": {"url": store_url, "key_prefix": keys.prefix},
        "control": {"listen": "127.0.0.1:0", "tick_interval_s": 0.2, "lease_ttl_s": 2.0},
        "proxy": {"listen": "127.0.0.1:0", "drain_s": 1.0},
    } | changes


def write(path: Path, document: dict[str, Any]) -> Path:
    """Write a configuration file."""
    path.write_text(yaml.safe_dump(document))
    return path


def read(path: Path) -> dict[str, Any]:
    """What `write` wrote."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    return document


class Command:
    """A real pointsman process, in a process group of its own. Its log goes to a file."""

    def __init__(self, log_path: Path, *arguments: str, env: dict[str, str] | None = None) -> None:
        self._log_path = log_path
        with log_path.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pointsman", *arguments],
                stderr=file,
                stdout=file,
                env=os.environ | (env or {}),
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log_path.read_text()

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self, number: signal.Signals = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send `number` and wait; the exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout_s)


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    """`commands("control", "--config", path)`: a real process, ended with the test."""
    started: list[Command] = []

    def start(*arguments: str, env: dict[str, str] | None = None) -> Command:
        command = Command(tmp_path / f"process-{len(started)}.log", *map(str, arguments), env=env)
        started.append(command)
        return command

    yield start
    for command in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(command.pid, signal.SIGKILL)
        command.process.wait()


@pytest.fixture
def config(store_url: str, keys: Keys, tmp_path: Path) -> Path:
    """A configuration file on the session's store."""
    return write(tmp_path / "pointsman.yaml", document_of(store_url, keys, tmp_path / "state"))
