"""`pointsman fake-provider`: a provider to rehearse outages with."""

import os
import signal
import ssl
from pathlib import Path
from typing import Annotated

import anyio
import typer

from pointsman.core.model import Family
from pointsman.fake import FakeProvider


def fake_provider(
    family: Annotated[Family, typer.Option(help="The protocol family that it speaks.")] = Family.OPENAI,
    name: Annotated[str, typer.Option(help="Every text that it says begins with it.")] = "fake",
    listen: Annotated[str, typer.Option(help="HOST:PORT of the API; port 0 for any.")] = "127.0.0.1:0",
    control: Annotated[str, typer.Option(help="HOST:PORT of the controls.")] = "127.0.0.1:0",
    kind: Annotated[str, typer.Option(help='"openrouter" for its errors and /v1/key.')] = "",
    prefix: Annotated[str, typer.Option(help='What stands before /v1 in paths ("/api").')] = "",
    models: Annotated[str, typer.Option(help="Models served, with commas; empty: any.")] = "",
    api_key_env: Annotated[
        list[str] | None, typer.Option(help="Environment variable with a key to ask for; may be repeated.")
    ] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file: serve HTTPS.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the private key.")] = None,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 20,
    token_delay_ms: Annotated[float, typer.Option(min=0, help="Time before each token.")] = 0.0,
    latency_ms: Annotated[float, typer.Option(min=0, help="Time to the first byte.")] = 0.0,
    latency_spread: Annotated[float, typer.Option(min=0, max=3, help="Sigma of its lognormal factor.")] = 0.0,
    rpm: Annotated[int, typer.Option(min=0, help="Requests a minute, then 429; 0: no limit.")] = 0,
    echo: Annotated[bool, typer.Option("--echo", help="Say what it was last asked, a word a token.")] = False,
    seed: Annotated[int, typer.Option(help="The same seed draws the same faults.")] = 0,
) -> None:
    """Serve as an LLM provider that can be made to fail, until SIGTERM or SIGINT.

    Over the controls: curl -X PUT --json '[{"kind": "status", "status": 503, "rate": 0.3}]' http://CONTROL/faults

    What else can be made to go wrong: curl http://CONTROL/
    """
    host, port = _address(listen, "--listen")
    control_host, control_port = _address(control, "--control")
    provider = FakeProvider(
        name,
        family,
        kind=kind,
        host=host,
        port=port,
        control_host=control_host,
        control_port=control_port,
        ssl_context=_tls(tls_cert, tls_key),
        prefix=prefix,
        models=tuple(model.strip() for model in models.split(",") if model.strip()),
        api_keys=tuple(_key(variable) for variable in api_key_env or ()),
        seed=seed,
        latency_ms=latency_ms,
        latency_spread=latency_spread,
        token_delay_ms=token_delay_ms,
        tokens=tokens,
        rpm=rpm,
        echo=echo,
    )
    _run(provider, f"{listen} and {control}")


def _run(provider: FakeProvider, where: str) -> None:
    try:
        anyio.run(_serve, provider)
    except OSError as error:
        typer.echo(f"cannot listen on {where}: {error.strerror}", err=True)
        raise typer.Exit(1) from error


async def _serve(provider: FakeProvider) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with provider.running():
            typer.echo(
                f"{provider.name} ({provider.family}) at {provider.base_url}, controls at {provider.control_url}"
            )
            async for _ in signals:
                break


def _address(text: str, option: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65_535:
        raise typer.BadParameter("must be HOST:PORT", param_hint=option)
    return host.strip("[]") or "127.0.0.1", int(port)


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None:
            raise typer.BadParameter("needs --tls-cert", param_hint="--tls-key")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except OSError as error:
        raise typer.BadParameter(f"cannot use {cert}: {error}", param_hint="--tls-cert") from error
    return context


def _key(variable: str) -> str:
    key = os.environ.get(variable, "")
    if not key:
        raise typer.BadParameter(f"{variable} is not set", param_hint="--api-key-env")
    return key
