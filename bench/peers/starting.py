"""Every way to the providers, started: each in one process, alone on the measured core, configured by a file here.

Everything listens on 127.0.0.1. The folder of a scene holds the filled-in files, the certificates and the logs.
"""

import contextlib
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import trustme
import yaml

from bench import asking, machine, memory, world
from bench.peers import installing
from pointsman.config.models import Settings
from pointsman.store.client import Store

HERE: Final = Path(__file__).parent
DIRECT, OURS, ENVOY, NGINX, HAPROXY, LITELLM = "direct", "pointsman", "Envoy", "nginx", "HAProxy", "LiteLLM"
LITELLM_START_S: Final = 120.0
_MARK: Final = re.compile(r"<<(\w+)>>")


class Way(NamedTuple):
    """A way to the providers: its process (None: nothing in between) and where it listens."""

    name: str
    pid: int | None
    port: int


@dataclass(frozen=True)
class Scene:
    """Two providers, and where files go. With `tls` they are to be spoken to over TLS, and verified with `ca.pem`."""

    folder: Path
    ports: tuple[int, int]
    tls: bool = False

    @property
    def places(self) -> dict[str, object]:
        """What every peer's file may name."""
        a, b = self.ports
        base = ("https://localhost" if self.tls else "http://127.0.0.1") + ":{}/v1"
        return {
            "folder": self.folder,
            "ca": self.folder / "ca.pem",
            "port_a": a,
            "port_b": b,
            "base_a": base.format(a),
            "base_b": base.format(b),
        }


def filled(template: str, values: dict[str, object]) -> str:
    """`template` with each <<name>> replaced. KeyError if a value is missing."""
    return _MARK.sub(lambda mark: str(values[mark[1]]), template)


def configuration(file: str, values: dict[str, object]) -> str:
    """One of the files beside this one, filled in."""
    return filled((HERE / file).read_text(), values)


@contextlib.contextmanager
def providers() -> Iterator[tuple[Scene, Scene]]:
    """Two providers that answer every request with `asking.REPLY`: as plain HTTP, and the same over TLS."""
    binary = installing.debian("nginx")
    with memory.folder() as folder:
        ports = [machine.free_port() for _ in range(4)]
        _certify(folder)
        names = ("port_a", "port_b", "tls_a", "tls_b")
        values = {"folder": folder, "reply": asking.REPLY} | dict(zip(names, ports, strict=True))
        path = folder / "provider.conf"
        path.write_text(configuration("provider.conf", values))
        command = [binary, "-p", str(folder), "-c", str(path)]
        with _process(command, folder, "provider", ports[0], core=machine.OTHER):
            a, b, tls_a, tls_b = ports
            yield Scene(folder, (a, b)), Scene(folder, (tls_a, tls_b), tls=True)


def _certify(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    own = authority.issue_cert("localhost", "127.0.0.1")
    own.private_key_pem.write_to_path(str(folder / "key.pem"))
    for place, part in enumerate(own.cert_chain_pems):
        part.write_to_path(str(folder / "chain.pem"), append=place > 0)


@contextlib.contextmanager
def _process(
    command: list[str],
    folder: Path,
    name: str,
    port: int,
    *,
    core: int = machine.MEASURED,
    env: dict[str, str] | None = None,
    timeout_s: float = machine.START_S,
) -> Iterator[int]:
    """A process that is ready when it listens: its id. RuntimeError with the end of its log if it never is."""
    log = folder / f"{name}-{port}.log"
    try:
        with machine.running(
            command, core=core, ready=lambda: machine.listens(port), env=env, log=log, timeout_s=timeout_s
        ) as process:
            yield process.pid
    except RuntimeError as error:
        said = log.read_text(errors="replace")[-500:] if log.exists() else ""
        raise RuntimeError(f"{error}: {said}" if said else str(error)) from None


@contextlib.contextmanager
def direct(scene: Scene) -> Iterator[Way]:
    """Nothing in between: the first provider."""
    yield Way(DIRECT, None, scene.ports[0])


@contextlib.contextmanager
def envoy(scene: Scene) -> Iterator[Way]:
    """Envoy with one worker."""
    binary, port = installing.envoy(), machine.free_port()
    config: dict[str, Any] = yaml.safe_load(configuration("envoy.yaml", scene.places | {"port": port}))
    if scene.tls:
        for cluster in config["static_resources"]["clusters"]:
            cluster["transport_socket"] = yaml.safe_load(configuration("envoy_tls.yaml", scene.places))
    path = scene.folder / f"envoy-{port}.json"
    path.write_text(json.dumps(config))
    command = [str(binary), "-c", str(path), "--concurrency", "1", "--disable-hot-restart"]
    with _process([*command, "--log-level", "error"], scene.folder, "envoy", port) as pid:
        yield Way(ENVOY, pid, port)


@contextlib.contextmanager
def nginx(scene: Scene) -> Iterator[Way]:
    """nginx as a reverse proxy."""
    binary, port = installing.debian("nginx"), machine.free_port()
    path = scene.folder / f"nginx-{port}.conf"
    path.write_text(configuration("nginx.conf", scene.places | {"port": port}))
    command = [binary, "-p", str(scene.folder), "-c", str(path), "-g", f"pid {scene.folder}/{port}.pid;"]
    with _process(command, scene.folder, "nginx", port) as pid:
        yield Way(NGINX, pid, port)


@contextlib.contextmanager
def haproxy(scene: Scene) -> Iterator[Way]:
    """HAProxy as a reverse proxy."""
    binary, port = installing.debian("haproxy"), machine.free_port()
    path = scene.folder / f"haproxy-{port}.cfg"
    path.write_text(configuration("haproxy.cfg", scene.places | {"port": port}))
    with _process([binary, "-db", "-f", str(path)], scene.folder, "haproxy", port) as pid:
        yield Way(HAPROXY, pid, port)


@contextlib.contextmanager
def litellm(scene: Scene) -> Iterator[Way]:
    """LiteLLM's proxy with one worker; it calls nobody but the providers."""
    binary, port = installing.litellm(), machine.free_port()
    path = scene.folder / f"litellm-{port}.yaml"
    path.write_text(configuration("litellm.yaml", scene.places | {"port": port}))
    command = [
        str(binary),
        "--config",
        str(path),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_PROXY": "*"}
    with _process(command, scene.folder, "litellm", port, env=env, timeout_s=LITELLM_START_S) as pid:
        yield Way(LITELLM, pid, port)


@contextlib.contextmanager
def ours(scene: Scene) -> Iterator[Way]:
    """`pointsman proxy` as an operator starts it, with a real store and a published table."""
    port = machine.free_port()
    with machine.valkey() as (url, _), memory.folder() as own:
        values = scene.places | {"port": port, "store": url, "folder": own}
        config: dict[str, Any] = yaml.safe_load(configuration("pointsman.yaml", values))

        settings = Settings.model_validate_json(json.dumps(config))

        async def publish() -> None:
            async with Store.connect(url, world.KEYS, timeout_s=5.0) as store:
                await world.publish_first(store, settings)

        anyio.run(publish)
        with memory.pointsman("proxy", config, lambda: memory.is_ready(port)) as pid:
            yield Way(OURS, pid, port)


Start = Callable[[Scene], "contextlib.AbstractContextManager[Way]"]
ALL: Final[dict[str, Start]] = {
    DIRECT: direct,
    NGINX: nginx,
    HAPROXY: haproxy,
    ENVOY: envoy,
    OURS: ours,
    LITELLM: litellm,
}


def versions() -> dict[str, str]:
    """Name → version of everything that takes part; of what is missing, what to do."""
    asked: dict[str, Callable[[], str]] = {
        ENVOY: lambda: installing.version_of([str(installing.envoy()), "--version"]),
        NGINX: lambda: installing.version_of([installing.debian("nginx"), "-v"]),
        HAPROXY: lambda: installing.version_of([installing.debian("haproxy"), "-v"]),
        LITELLM: lambda: (installing.litellm(), installing.pinned("litellm", "litellm"))[1],
        "wrk": lambda: installing.version_of([installing.debian("wrk"), "-v"]),
    }
    found = {"Python": sys.version.split()[0]}
    for name, ask in asked.items():
        try:
            found[name] = ask()
        except machine.MissingError as error:
            found[name] = f"missing ({error})"
    return found
