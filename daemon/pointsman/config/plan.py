"""From what the operator writes to what the core decides with, and to where credentials may go."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from urllib.parse import urlsplit

import msgspec

from pointsman.config import addresses
from pointsman.config.models import ProviderSettings, RouteSettings, Settings
from pointsman.config.ramps import ramp_plan
from pointsman.config.rollouts import rollout_plans
from pointsman.core.model import Family, Plan, Policy, Provider, Route, Target


def to_bp(percent: float) -> int | None:
    """A weight in whole basis points, None if it has more than two decimals. Exact: 33.33 → 3333."""
    scaled = Decimal(repr(percent)) * 100
    return int(scaled) if scaled == scaled.to_integral_value() else None


def to_percent(share_bp: int) -> float | int:
    """The weight that `to_bp` turns into `share_bp`, whole where it is whole."""
    return share_bp // 100 if share_bp % 100 == 0 else share_bp / 100


def weights_bp(route: RouteSettings) -> dict[str, int]:
    """The route's weights in basis points; they sum to 10,000 in settings that were loaded."""
    return {target: to_bp(percent) or 0 for target, percent in route.weights.items()}


def full_chain(route: RouteSettings) -> tuple[str, ...]:
    """Every target of the route in the order of falling over: the chain, then the rest by falling weight."""
    by_weight = sorted(route.weights, key=lambda target: -route.weights[target])
    return (*route.chain, *(target for target in by_weight if target not in route.chain))


def to_plan(settings: Settings) -> Plan:
    """The plan of loaded settings. `digest` is equal for two that ask for the same, however it is written."""
    plan = Plan(
        environment=settings.environment,
        fleet=settings.fleet,
        providers={name: _provider(name, provider) for name, provider in settings.providers.items()},
        targets={
            name: Target(
                name=name,
                provider=target.provider,
                model=target.model,
                capacity_rps=target.capacity_rps,
                embeds=target.serves == "embeddings",
            )
            for name, target in settings.targets.items()
        },
        routes={name: _route(name, route, settings) for name, route in settings.routes.items()},
        policy=Policy(**{field: getattr(settings.policy, field) for field in Policy.__struct_fields__}),
        ramp=ramp_plan(settings.ramp),
        rollouts=rollout_plans(settings.rollouts),
    )
    canonical = msgspec.json.encode(plan, order="sorted")
    return msgspec.structs.replace(plan, digest=hashlib.sha256(canonical).hexdigest())


def _provider(name: str, provider: ProviderSettings) -> Provider:
    return Provider(
        name=name,
        family=Family(provider.family),
        base_url=provider.base_url.rstrip("/"),
        shared_fate=provider.shared_fate,
        generate=provider.probe.generate,
        adapter=provider.kind,
        headers=dict(provider.headers),
    )


def _route(name: str, route: RouteSettings, settings: Settings) -> Route:
    chain = full_chain(route)
    family = settings.providers[settings.targets[chain[0]].provider].family
    return Route(
        name=name,
        family=Family(family),
        weights_bp=weights_bp(route),
        chain=chain,
        sticky_by=route.sticky_by,
        max_attempts=route.max_attempts,
    )


@dataclass(frozen=True, slots=True)
class Binding:
    """Where one provider's credential may go, and in which header.

    `origins` are hosts with scheme and port: a table that names another host, another port or plain http gets no
    credential. `refs` are references to secrets, the first preferred.
    """

    origins: frozenset[str]
    refs: tuple[str, ...]
    header: str

    def allows(self, base_url: str) -> bool:
        """May the credential be sent to `base_url`?"""
        try:
            return addresses.origin(base_url) in self.origins
        except ValueError:
            return False

    def value(self, secret: str) -> str:
        """What the header says: "Bearer …" in authorization, the bare secret elsewhere."""
        return f"Bearer {secret}" if self.header == "authorization" else secret


def credential_bindings(settings: Settings) -> Mapping[str, Binding]:
    """Provider → its binding, for every provider that has a credential."""
    return {name: _binding(provider) for name, provider in settings.providers.items() if provider.credentials}


def _binding(provider: ProviderSettings) -> Binding:
    url = urlsplit(provider.base_url)
    extra = [addresses.parse_host(host) for host in provider.credential_hosts]
    named = {addresses.origin_of(url.scheme, host, port) for host, port in extra}
    return Binding(
        origins=frozenset({addresses.origin(provider.base_url), *named}),
        refs=provider.credentials,
        header=provider.credential_header or default_header(provider),
    )


def default_header(provider: ProviderSettings) -> str:
    """The header that a provider of this kind and family expects its credential in, in lower case.

    Azure takes an API key in `api-key` for its OpenAI paths and in `x-api-key` for its Anthropic ones; Bedrock,
    OpenRouter, Meta and everything that speaks the OpenAI family take a bearer token.
    """
    anthropic_family = provider.family == "anthropic"
    if provider.kind == "anthropic" or (anthropic_family and provider.kind in {"azure", "compatible"}):
        return "x-api-key"
    return "api-key" if provider.kind == "azure" else "authorization"
