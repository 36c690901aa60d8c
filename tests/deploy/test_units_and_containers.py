"""The service files say what service managers understand."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent.parent
UNITS = sorted((ROOT / "systemd").glob("*.service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_systemd_accepts_the_unit(unit: Path, tmp_path: Path) -> None:
    """systemd knows every key of the unit; only the installed command is put in for the test."""
    command = Path(sys.executable).with_name("pointsman")
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/pointsman/bin/pointsman", str(command)))

    verified = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=yes", str(copy)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SYSTEMD_LOG_LEVEL": "warning"},
    )

    assert (verified.returncode, verified.stderr) == (0, "")


@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.stem)
def test_the_unit_runs_a_command_that_exists(unit: Path) -> None:
    """The verb in ExecStart is one of the program's."""
    line = next(line for line in unit.read_text().splitlines() if line.startswith("ExecStart="))
    verb = line.split()[1]

    helped = subprocess.run(
        [sys.executable, "-m", "pointsman", verb, "--help"], capture_output=True, text=True, check=False
    )

    assert helped.returncode == 0


def test_the_compose_file_fits_the_schema() -> None:
    """docker-compose.yml has no key that Compose does not know."""
    checked = subprocess.run(
        [
            sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec",
            str(ROOT / "docker-compose.yml"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip

    assert checked.returncode == 0, checked.stdout


def test_every_image_is_built_by_one_service() -> None:
    """Compose builds at the same time, and refuses the second that has the name of the first."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"].values()
    built = [service["image"] for service in services if "build" in service]

    assert built == ["pointsman"]
    assert [service["image"] for service in services].count("pointsman") == 3


def test_the_image_holds_what_it_copies() -> None:
    """Every path that the Dockerfile copies exists and is not ignored."""
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        source
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ") and "--from" not in line
        for source in line.split()[1:-1]
    ]

    assert [path for path in copied if not (ROOT / path).exists()] == []
    assert [path for path in copied if path.split("/")[0] not in allowed] == []


def test_nothing_listens_to_the_world_without_being_asked() -> None:
    """Published ports are bound to loopback."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    ports = [port for service in services.values() for port in service.get("ports", [])]

    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_proxies_in_containers_are_reached_by_their_names() -> None:
    """Each advertises its service and the port that it listens on: what is made for a ramp comes from elsewhere."""
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    proxies = {name: one["environment"] for name, one in services.items() if name.startswith("proxy")}

    assert proxies
    for name, environment in proxies.items():
        port = environment["POINTSMAN_PROXY__LISTEN"].rpartition(":")[2]
        assert environment["POINTSMAN_PROXY__ADVERTISE"] == f"{name}:{port}"
