"""One provider, tried by hand: `pointsman provider test NAME`."""

import time
from collections.abc import Mapping

import anyio

from pointsman.config.models import Settings
from pointsman.config.plan import to_plan
from pointsman.core.cadence import Probe
from pointsman.core.errors import Fault, Outcome
from pointsman.core.evidence import ProbeKind, ProbeResult
from pointsman.probing.access import access_of
from pointsman.probing.asking import ask_once, result
from pointsman.probing.client import Client
from pointsman.probing.kinds import Ask, Seen
from pointsman.probing.providers import adapter_of

VANTAGE = "by hand"


async def try_one(settings: Settings, name: str, env: Mapping[str, str] | None = None) -> list[ProbeResult]:
    """Reach the provider and generate with each of its targets, all at once; the reach result comes first.

    Targets are asked even if the configuration spares their tokens, and nothing is held against the budget: an
    operator asked. A missing secret is a result too. Raises LookupError for a name that is not configured.
    `env` stands in for this process's environment.
    """
    if name not in settings.providers:
        raise LookupError(f"there is no provider {name}; there are: {', '.join(sorted(settings.providers))}")
    plan = to_plan(settings)
    provider, access = plan.providers[name], access_of(settings, env)[name]
    probes = [Probe(ProbeKind.REACH, name)]
    probes += [
        Probe(ProbeKind.GENERATE, name, key) for key, one in plan.targets.items() if one.provider == name
    ]
    obstacle = access.obstacle(provider)
    seen: dict[Probe, Seen] = {}

    async def ask(client: Client, probe: Probe) -> None:
        target = plan.targets.get(probe.target)
        question = Ask(provider, target, adapter_of(provider.adapter), access)
        seen[probe], _ = await ask_once(client, probe.kind, question)

    if obstacle:
        seen = dict.fromkeys(probes, Seen(Outcome(Fault.CREDENTIAL, obstacle), 0.0))
    else:
        async with Client() as client, anyio.create_task_group() as group:
            for probe in probes:
                group.start_soon(ask, client, probe)
    return [result(probe, seen[probe], at_s=time.time(), vantage=VANTAGE) for probe in probes]
