"""The command line's tests run real commands against a real daemon; helpers are those of the control tests."""

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pointsman.cli import main

sys.path.insert(0, str(Path(__file__).parent.parent / "control"))

from control_processes import Command, commands, config

__all__ = ["Result", "commands", "config"]


class Result:
    """What a command answered."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def __repr__(self) -> str:
        return f"exit code {self.code}\n{self.out}{self.err}"


Cli = Callable[..., Result]


@pytest.fixture
def cli(config: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """`cli("status")`: run a command as the entry point does, with the test's configuration and no terminal."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setenv("LOGNAME", "ann")

    def run(*arguments: str, path: Path = config) -> Result:
        monkeypatch.setenv("POINTSMAN_CONFIG", str(path))
        monkeypatch.setattr(sys, "argv", ["pointsman", *arguments])
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as exit_,
        ):
            main()
        return Result(int(exit_.value.code or 0), out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def daemon(commands: Callable[..., Command], config: Path, cli: Cli) -> Command:
    """A daemon that leads and has published."""
    started = commands("control", "--config", config)
    deadline = time.monotonic() + 15
    while True:
        result = cli("status", "--output", "json")
        if result.code == 0 and result.json["leader"] and result.json["table"]:
            return started
        assert time.monotonic() < deadline, f"{result}{started.log}"
