"""Secrets are planted wherever one can be, and looked for wherever one must not be."""

import base64
import itertools
import json
import signal
import urllib.parse
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from ears import Heard, board, every_file, everything_stored, otlp_receiver, parrot
from installation import Vault
from processes import processes_of
from storm import LEASE, Storm, storm

from pointsman.config.caller_keys import hashed
from pointsman.fake.faults import Fault, Kind
from pointsman.fake.ledger import digest
from pointsman.store.keys import Keys
from support import eventually

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

# None of them looks like a key: a filter that knows keys by their shape must not find them.
OURS = {
    name: f"planted{number}ours{'x7Qv' * 6}"
    for number, name in enumerate(
        (
            *("bedrock", "google", "meta", "anthropic", "openrouter", "retired", "parrot", "store", "otlp"),
            *("gate", "synthetic"),
        )
    )
}
CALLERS = {
    name: f"planted{number}theirs{'k3Wz' * 6}"
    for number, name in enumerate(
        ("authorization", "x-api-key", "cookie", "query", "prompt", "user", "header", "stranger")
    )
}
SECRETS = {**OURS, **{f"caller's {name}": secret for name, secret in CALLERS.items()}}
# Long enough for a busy machine: what is healthy has to answer, and what hangs is met once.
TIMEOUTS = {"connect_s": 5.0, "first_byte_s": 3.0, "idle_s": 3.0, "response_s": 3.0}
PROBE = {"reach_interval_s": 1.0, "generate_interval_s": 1.5, "suspect_gap_s": 0.5}
PROBE |= {"reach_timeout_s": 5.0, "generate_timeout_s": 10.0}
CHAT = ("bedrock", "google", "meta")
KEYS = Keys(prefix="e2e", environment="production", fleet="default")


class Leaks:
    """What was found where it must not be; `looked` are the places, by kind, that were looked through and not empty."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.looked: dict[str, set[str]] = defaultdict(set)

    def look(self, kind: str, place: str, content: bytes | str) -> None:
        if content:
            self.looked[kind].add(place)
        body = content.encode() if isinstance(content, str) else content
        self.found += [
            f"{name} in {kind}: {place}"
            for name, secret in SECRETS.items()
            if any(f in body for f in _forms(secret))
        ]


def _forms(secret: str) -> tuple[bytes, ...]:
    return secret.encode(), base64.b64encode(secret.encode()).rstrip(b"=")


def vault(secrets: Path) -> Vault:
    """Keys by variable, by file, by systemd credential, and a retired one in front of a good one."""
    (secrets / "credentials").mkdir(parents=True)
    (secrets / "google").write_text(OURS["google"] + "\n")
    (secrets / "retired").write_text(OURS["retired"])
    (secrets / "credentials" / "meta").write_text(OURS["meta"])
    return Vault(
        keys={name: OURS[name] for name in ("bedrock", "google", "meta", "anthropic", "openrouter")},
        refs={
            "bedrock": ["env:CHAOS_BEDROCK"],
            "google": [f"file:{secrets / 'google'}"],
            "meta": ["credential:meta"],
            "anthropic": ["env:CHAOS_ANTHROPIC"],
            "openrouter": [f"file:{secrets / 'retired'}", "env:CHAOS_OPENROUTER"],
        },
        env={
            **{f"CHAOS_{name.upper()}": secret for name, secret in OURS.items()},
            "CREDENTIALS_DIRECTORY": str(secrets / "credentials"),
            "E2E_STORE_PASSWORD": OURS["store"],
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-otlp-token={OURS['otlp']}",
        },
        store_password=OURS["store"],
    )


def parroted(url: str) -> dict[str, dict[str, Any]]:
    provider = {
        "family": "openai",
        "base_url": f"{url}/v1",
        "credentials": ["env:CHAOS_PARROT"],
        "probe": PROBE,
    }
    return {
        "providers": {"parrot": provider},
        "targets": {"parrot": {"provider": "parrot", "model": "parrot-model"}},
        "routes": {"parrot": {"weights": {"parrot": 100}}},
    }


# Who is let in: the callers below with either of their keys, the storm's own, and what the daemon asks for by itself.
LET_IN = {
    "by-bearer": CALLERS["authorization"],
    "by-header": CALLERS["x-api-key"],
    "storm": "a-callers-key",
    "synthetic": OURS["synthetic"],
}


def guarded(gate_url: str) -> dict[str, dict[str, Any]]:
    """Proxies with keys and access logs; canaries with a gate outside, and with traffic made for them."""
    gate = {"name": "board", "kind": "webhook", "url": f"{gate_url}/ramps", "interval_s": 0.5}
    return {
        "proxy": {
            "keys": {name: hashed(key) for name, key in LET_IN.items()},
            "synthetic_key": "env:CHAOS_SYNTHETIC",
            "access_log": True,
        },
        "ramp": {"canary": {"gates": [gate | {"credential": "env:CHAOS_GATE"}], "synthetic": True}},
    }


async def canary(run: Storm, gate: Heard) -> None:
    """A canary on the route that is well, until its gate has been told of a step, and its own requests are answered."""
    start = "canary start claude --from anthropic --to openrouter --reason trial"
    answer = await run.cli(*start.split())
    assert answer.code == 0, answer
    # What it said is what is told of the ramp from then on.
    await eventually(lambda: b"board: you are" in gate.bodies, 30.0)
    await eventually(lambda: '"key":"synthetic"' in run.here.logs(), 30.0)


HEADERS = {
    "authorization": f"Bearer {CALLERS['authorization']}",
    "x-api-key": CALLERS["x-api-key"],
    "cookie": f"session={CALLERS['cookie']}",
    "x-goog-api-key": CALLERS["header"],
    "anthropic-version": "2023-06-01",
}
QUERIES = [f"?{name}={CALLERS['query']}" for name in ("key", "api_key", "access_token")]


async def ask(
    run: Storm,
    leaks: Leaks,
    *,
    model: str = "chat",
    path: str = "/v1/chat/completions",
    headers: Mapping[str, str] = HEADERS,
) -> set[int]:
    """A caller with secrets everywhere asks each proxy, streamed and not; what comes back is looked through."""
    statuses: set[int] = set()
    whole = {
        "model": model,
        "max_tokens": 16,
        "user": CALLERS["user"],
        "messages": [{"role": "user", "content": f"My password is {CALLERS['prompt']}."}],
    }
    broken = f'{{"model": "chat", "messages": "{CALLERS["prompt"]}'

    async def post(url: str, body: str) -> int:
        async with session.post(url, data=body, headers=headers) as response:
            told = f"{response.reason} {dict(response.headers)} ".encode() + await response.read()
            leaks.look("answer", f"{response.status} of {path} for {model}", told)
            return response.status

    async def add(url: str, stream: bool) -> None:
        statuses.add(await post(url, json.dumps({**whole, "stream": stream})))

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
        async with anyio.create_task_group() as asking:
            for url, query, stream in itertools.product(run.here.urls.values(), QUERIES, (False, True)):
                asking.start_soon(add, url + path + query, stream)
        await post(next(iter(run.here.urls.values())) + path, broken)
    return statuses


async def misfortunes(run: Storm, leaks: Leaks) -> dict[str, set[int]]:
    """Every kind of failure while callers with secrets ask."""
    fakes = run.here.fakes
    seen = {"well": await ask(run, leaks)}
    seen["well"] |= await ask(run, leaks, model="claude", path="/v1/messages")
    for name, fault in {
        "401": Fault(kind=Kind.STATUS, status=401),
        "500": Fault(kind=Kind.STATUS, status=500),
        "hang": Fault(kind=Kind.HANG),
    }.items():
        for provider in CHAT:
            fakes[provider].set_faults(fault)
        seen[name] = await ask(run, leaks)
        for provider in CHAT:
            fakes[provider].clear()
    for provider in CHAT:
        fakes[provider].die("refuse")
    seen["refuse"] = await ask(run, leaks)
    for provider in CHAT:
        fakes[provider].revive()
    stranger = dict.fromkeys(("x-api-key", "api-key"), CALLERS["stranger"])
    seen["stranger"] = await ask(
        run, leaks, headers=stranger | {"authorization": f"Bearer {CALLERS['stranger']}"}
    )
    seen["parrot"] = await ask(run, leaks, model="parrot")
    seen["unknown"] = await ask(run, leaks, model="nobody") | set(await ask(run, leaks, path="/v1/nothing"))
    return seen


COMMANDS = (
    "status",
    "status --output json",
    "explain chat",
    "explain parrot --output json",
    "explain claude --output json",
    "canary status",
    "canary status --output json",
    "explain parrot --at now --output json",
    "replay --output json",
    "weights show --output json",
    "table show --output json",
    "table history",
    "table diff 1",
    "events --count 1000 --output json",
    "config validate",
    "config show",
    "config export",
    "provider list --output json",
    "provider test bedrock",
    "provider test openrouter",
    "provider test parrot",
    "provider test parrot --output json",
)


async def commands(run: Storm, leaks: Leaks) -> dict[str, int]:
    """What every command shows, also when the store refuses it or its URL holds the password."""
    codes: dict[str, int] = {}
    limit = anyio.CapacityLimiter(4)
    in_url = run.here.valkey.url.replace("unix://", f"unix://:{OURS['store']}@")
    as_query = f"{run.here.valkey.url}?password={OURS['store']}"

    async def one(text: str, **env: str) -> None:
        async with limit:
            answer = await run.cli(*text.split(), env=env)
        place = " ".join([*env, text])
        leaks.look("command", place, answer.out + answer.err)
        codes[place] = answer.code

    async with anyio.create_task_group() as running:
        for text in COMMANDS:
            running.start_soon(one, text)
        for text, variable, value in (
            ("status", "E2E_STORE_PASSWORD", OURS["retired"]),
            ("config validate", "POINTSMAN_STORE__URL", in_url),
            ("config show", "POINTSMAN_STORE__URL", as_query),
            ("control", "POINTSMAN_STORE__URL", in_url),
            ("config validate", "POINTSMAN_PROVIDERS__BEDROCK__CREDENTIALS", f'["{OURS["bedrock"]}"]'),
        ):
            running.start_soon(lambda t=text, n=variable, v=value: one(t, **{n: v}))
    return codes


async def test_a_secret_is_nowhere_but_where_it_belongs(folder: Path) -> None:
    """Keys, passwords, callers' own secrets: in no key, log, span, answer, URL, command's output, state file."""
    leaks = Leaks()
    async with otlp_receiver() as otlp, parrot() as bird, board() as gate:
        async with storm(
            folder,
            per_s=10.0,
            vault=vault(folder / "secrets"),
            **parroted(bird.url),
            **guarded(gate.url),
            store={"password": "env:E2E_STORE_PASSWORD"},
            control=LEASE,
            timeouts=TIMEOUTS,
            probe=PROBE,
            policy={"cooldown_max_s": 1.0, "slow_start_s": 1.0, "quota_recheck_s": 1.0},
            telemetry={"otlp_endpoint": otlp.url, "sample_ratio": 1.0, "log_level": "debug"},
        ) as run:
            seen = await misfortunes(run, leaks)
            await canary(run, gate)
            codes = await commands(run, leaks)
            for process in (*run.here.daemons.values(), *run.here.proxies.values()):
                process.signal(signal.SIGHUP)
            async for place, content in everything_stored(run.here.valkey.url, OURS["store"]):
                leaks.look("key", place, content)
            for command in processes_of(folder).values():
                leaks.look("process", what(command), command)
            arrived = {name: dict(fake.requests.by_credential) for name, fake in run.here.fakes.items()}
            look_at_requests(run, leaks)
            await eventually(lambda: spans_of(otlp) >= SPANS, 15.0)
        # The processes have ended: their last words and spans are there.
        leaks.look("spans", "all", otlp.bodies)
        for place, content in every_file(folder, but=folder / "secrets"):
            leaks.look("file", place, content)

    assert leaks.found == []
    assert {kind: due - leaks.looked[kind] for kind, due in DUE.items() if due - leaks.looked[kind]} == {}
    assert {name: set(known) for name, known in arrived.items()} == {
        name: {digest(OURS[key]) for key in keys} for name, keys in SENT.items()
    }
    assert OURS["parrot"] in bird.headers
    assert not any(secret in bird.headers for secret in CALLERS.values())
    assert OURS["otlp"] in otlp.headers
    assert OURS["gate"] in gate.headers
    assert [s for s in SECRETS.values() if s.encode() in gate.bodies] == []
    assert seen == MET
    assert {place: code for place, code in codes.items() if code} == REFUSED


def look_at_requests(run: Storm, leaks: Leaks) -> None:
    """What came to the providers; credentials are kept as digests there."""
    for name, fake in run.here.fakes.items():
        for request in fake.requests.seen:
            leaks.look("URL", name, urllib.parse.unquote(request.target))
            leaks.look("headers", name, str(request.headers))
            assert not request.header("cookie")


def what(command: str) -> str:
    """Which of ours a command line is."""
    return next((name for name in ("control", "proxy", "valkey") if name in command.lower()), "another")


SENT = {name: (name,) for name in ("bedrock", "google", "meta", "anthropic")}
SENT["openrouter"] = ("retired", "openrouter")
MET = {"well": {200}, "unknown": {404}, "stranger": {401}} | {
    name: {502} for name in ("401", "500", "hang", "refuse", "parrot")
}
REFUSED = {
    "provider test parrot": 1,
    "provider test parrot --output json": 1,
    "E2E_STORE_PASSWORD status": 3,
    "POINTSMAN_STORE__URL config validate": 2,
    "POINTSMAN_STORE__URL config show": 2,
    "POINTSMAN_STORE__URL control": 2,
    "POINTSMAN_PROVIDERS__BEDROCK__CREDENTIALS config validate": 2,
}
SPANS = {b"proxy.request", b"proxy.attempt", b"probe.round", b"control.decide", b"control.publish"}


CHAT_PATH = "/v1/chat/completions"
# What has to be looked through, by kind: without it, finding nothing says nothing.
DUE = {
    "answer": {
        *(f"{status} of {CHAT_PATH} for chat" for status in (200, 400, 401, 502)),
        "200 of /v1/messages for claude",
        f"502 of {CHAT_PATH} for parrot",
        f"404 of {CHAT_PATH} for nobody",
        "404 of /v1/nothing for chat",
    },
    "command": {*COMMANDS, *REFUSED},
    "key": {
        *(
            getattr(KEYS, name)
            for name in (
                *("lease", "epoch", "state", "table", "history", "revisions"),
                *("proxies", "words", "events", "records"),
            )
        ),
        *(KEYS.report(name) for name in ("proxy-1", "proxy-2")),
    },
    "process": {"control", "proxy", "valkey"},
    "URL": set(SENT),
    "headers": set(SENT),
    "spans": {"all"},
    "file": {
        "pointsman.yaml",
        *(f"{name}.log" for name in ("daemon-1", "proxy-1", "proxy-2")),
        *(f"state/table-{name}.json" for name in ("proxy-1", "proxy-2")),
    },
}


def spans_of(otlp: Heard) -> set[bytes]:
    return {name for name in SPANS if name in otlp.bodies}
