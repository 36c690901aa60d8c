"""`pointsman fake-provider` as a process."""

import http.client
import os
import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from support import free_port

COMMAND = (
    "import typer; from pointsman.cli.fake_provider import fake_provider;"
    "app = typer.Typer(); app.command()(fake_provider); app()"
)


class Command:
    """Processes of the command; those that a test leaves behind are ended."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start the command."""
        process = subprocess.Popen(
            [sys.executable, "-c", COMMAND, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self._started.append(process)
        return process

    def end(self) -> None:
        """End what still runs."""
        for process in self._started:
            process.kill()
            process.communicate()


@pytest.fixture
def command() -> Iterator[Command]:
    """Starts the command."""
    command = Command()
    yield command
    command.end()


def ready(process: subprocess.Popen[str]) -> tuple[str, str]:
    """The two addresses in the line that says that it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    found = re.fullmatch(r"bedrock \((?:openai|anthropic)\) at (\S+), controls at (\S+)\n", line)
    assert found, line or process.communicate()[1]
    return found[1], found[2]


def get(url: str, *, key: str = "", tls: ssl.SSLContext | None = None) -> tuple[int, bytes]:
    """(status, body) of a GET."""
    address = urlsplit(url)
    assert address.hostname
    if tls is None:
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
    else:
        connection = http.client.HTTPSConnection(address.hostname, address.port, timeout=5, context=tls)
    connection.request("GET", address.path, headers={"authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer.status, body


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_serves_until_it_is_told_to_stop(command: Command, end: signal.Signals) -> None:
    """It says where it is in one line, serves, and exits with 0 on either signal."""
    process = command.start("--family", "openai", "--name", "bedrock", "--models", "a, b")
    base_url, control_url = ready(process)
    assert re.findall(rb'"id":"(\w+)"', get(f"{base_url}/models")[1]) == [b"a", b"b"]
    assert b'"/v1/models":1' in get(f"{control_url}/stats")[1]
    process.send_signal(end)
    assert process.wait(5) == 0
    assert process.communicate() == ("", "")


def test_listens_where_it_is_told(command: Command) -> None:
    """The two addresses are those that were asked for."""
    port, control = free_port(), free_port()
    arguments = ("--listen", f"127.0.0.1:{port}", "--control", f"127.0.0.1:{control}")
    process = command.start("--name", "bedrock", "--family", "anthropic", *arguments)
    assert ready(process) == (f"http://127.0.0.1:{port}", f"http://127.0.0.1:{control}")
    second = command.start(*arguments)
    _, complaint = second.communicate(timeout=10)
    assert second.returncode == 1
    assert complaint.startswith(f"cannot listen on 127.0.0.1:{port}")
    assert "Traceback" not in complaint


def test_tls_and_a_key(command: Command, tmp_path: Path) -> None:
    """It serves HTTPS, and asks for a key that it was given by an environment variable's name."""
    authority = trustme.CA()
    pair = authority.issue_cert("127.0.0.1")
    pair.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    pair.private_key_pem.write_to_path(tmp_path / "key.pem")
    files = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    process = command.start(
        "--name", "bedrock", "--api-key-env", "REHEARSAL_KEY", *files, REHEARSAL_KEY="sk-1"
    )
    base_url, _ = ready(process)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    assert get(f"{base_url}/models", key="sk-1", tls=context)[0] == 200
    assert get(f"{base_url}/models", key="sk-2", tls=context)[0] == 401


@pytest.mark.parametrize(
    "arguments",
    [
        ("--listen", "nowhere"),
        ("--control", "127.0.0.1:99999"),
        ("--tls-key", "key.pem"),
        ("--tls-cert", "/nonexistent.pem"),
        ("--api-key-env", "NOT_SET_ANYWHERE"),
        ("--family", "esperanto"),
    ],
)
def test_wrong_options(command: Command, arguments: tuple[str, str]) -> None:
    """A wrong option ends with 2 and names itself."""
    process = command.start(*arguments)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode == 2
    assert arguments[0] in complaint
