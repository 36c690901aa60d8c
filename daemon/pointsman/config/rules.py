"""What several fields say together: references, sums, families, addresses, times.

Each rule is a generator of findings over settings that are sound field by field. `declared` holds the names
that the file gives, also those of entries which are not sound themselves: a reference to one is no mistake.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from pointsman.config import addresses
from pointsman.config.errors import Finding, KeyPath, dotted, nearest, plain
from pointsman.config.models import (
    PolicySettings,
    ProbeSettings,
    ProviderSettings,
    RouteSettings,
    Settings,
    TargetSettings,
)
from pointsman.config.plan import to_bp
from pointsman.config.process_rules import absolute, check_processes
from pointsman.config.ramp_rules import check_failback, check_ramps
from pointsman.config.rollout_rules import check_rollouts
from pointsman.core import cadence, headers
from pointsman.core.table import FULL_BP, percent

BUCKET_S: Final = 10  # the slice of the rolling window, core.model.Bucket
STICKY: Final = ("session", "user", "api_key", "random")
_OWN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer"}
)
_OPENAI_ONLY: Final = frozenset({"openai", "gemini", "mistral"})


class Declared(NamedTuple):
    """The names that the file gives to its entries, sound or not."""

    providers: frozenset[str]
    targets: frozenset[str]
    routes: frozenset[str]


def check(settings: Settings, declared: Declared) -> Iterator[Finding]:
    """Every finding of every rule."""
    yield from _empty(declared)
    for name, provider in settings.providers.items():
        yield from _provider(("providers", name), provider)
    yield from _detection(settings.providers, settings.policy)
    for name, target in settings.targets.items():
        yield from _unknown(("targets", name, "provider"), target.provider, declared.providers, "provider")
        yield from _serves(("targets", name, "serves"), target, settings.providers)
    for name, route in settings.routes.items():
        yield from _route(("routes", name), route, settings, declared)
    yield from _policy(settings.policy)
    yield from check_failback(settings.providers, settings.policy)
    yield from check_ramps(settings.ramp)
    yield from check_rollouts(settings, declared.routes, declared.targets, _unknown)
    yield from check_processes(settings)
    yield from _store(settings)


def _empty(declared: Declared) -> Iterator[Finding]:
    for section, names in declared._asdict().items():
        if not names:
            yield Finding((section,), f"there are no {section}", f"write at least one entry below {section}:")


def _unknown(path: KeyPath, name: str, known: Iterable[str], what: str) -> Iterator[Finding]:
    names = sorted(known)
    if name in names or not names:  # that there is nothing at all is told once, where it should stand
        return
    meant = nearest(name, names)
    cure = (
        f"did you mean {dotted((meant,))}?"
        if meant
        else f"write it below {what}s:, or name one that is there"
    )
    yield Finding(path, f"there is no {what} of this name", cure)


# --- providers


def detection_s(probe: ProbeSettings, policy: PolicySettings) -> float:
    """The longest time to find a hard-down target without traffic, in seconds: the cadence's own bound."""
    return cadence.detection_bound_s(_timing(probe), failures=policy.probe_failures)


def zombie_detection_s(probe: ProbeSettings, policy: PolicySettings, targets: int = 1) -> float | None:
    """The same for a target whose completions hang while it answers everything else; None if it is not asked.

    `targets` of its provider, which may all hang and wait for each other.
    """
    if not probe.generate:
        return None
    return cadence.zombie_bound_s(_timing(probe), failures=policy.probe_failures, targets=max(1, targets))


def _timing(probe: ProbeSettings) -> cadence.ProbeTiming:
    return cadence.ProbeTiming(**probe.model_dump())


def _detection(providers: Mapping[str, ProviderSettings], policy: PolicySettings) -> Iterator[Finding]:
    """Too slow by its own probe settings is the provider's problem, by the defaults the policy's, and told once."""
    cure = "lower reach_interval_s or reach_timeout_s, or raise policy.detection_bound_s"
    places: dict[KeyPath, float] = {}
    for name, provider in providers.items():
        found_s = detection_s(provider.probe, policy)
        if found_s >= policy.detection_bound_s:
            changed = (
                "detection_bound_s"
                if policy.probe_failures == PolicySettings().probe_failures
                else "probe_failures"
            )
            own = provider.probe != ProbeSettings()
            places[("providers", name, "probe") if own else ("policy", changed)] = found_s
    for place, found_s in places.items():
        found, bound = plain(round(found_s, 3)), plain(policy.detection_bound_s)
        sum_ = "reach_interval_s × 1.1 + a deadline or gap for each failure"
        text = f"a dead target would be found after {found} s ({sum_}), not under {bound} s"
        yield Finding(place, text, cure, (("policy",),))


def _provider(path: KeyPath, provider: ProviderSettings) -> Iterator[Finding]:
    yield from _base_url((*path, "base_url"), provider)
    yield from _headers((*path, "headers"), provider.headers)
    if provider.family == "anthropic" and provider.kind in _OPENAI_ONLY:
        text = f"a provider of kind {provider.kind} does not speak the anthropic family"
        yield Finding((*path, "family"), text, "write family: openai, or another kind")
    for index, host in enumerate(provider.credential_hosts):
        try:
            addresses.parse_host(host)
        except ValueError:
            yield Finding((*path, "credential_hosts", index), "this is no host", "write HOST or HOST:PORT")
    for index, ref in enumerate(provider.credentials):
        if not ref.isprintable():
            text = "the reference has a line break or a control character in it"
            yield Finding((*path, "credentials", index), text, "write it on one line")
    if len(set(provider.credentials)) != len(provider.credentials):
        yield Finding((*path, "credentials"), "the same reference stands twice", "remove one")
    if provider.ca_file is not None:
        yield from absolute((*path, "ca_file"), provider.ca_file)


def _base_url(path: KeyPath, provider: ProviderSettings) -> Iterator[Finding]:
    try:
        url = addresses.split_url(provider.base_url)
    except ValueError as error:
        yield Finding(
            path, f"this is no base URL: {error}", "write https://HOST/PATH, and secrets as credentials"
        )
        return
    plain_is_safe = provider.allow_plain_http or addresses.is_loopback(url.hostname or "")
    if url.scheme == "http" and not plain_is_safe:
        text = "plain http to another machine would send credentials and prompts in the clear"
        yield Finding(path, text, "write https://, or allow_plain_http: true if the network is trusted")


def _headers(path: KeyPath, constant: Mapping[str, str]) -> Iterator[Finding]:
    for name, value in constant.items():
        place = (*path, name)
        if not headers.is_name(name):
            yield Finding(place, "this is no header's name", "use letters, digits and hyphens")
        elif headers.is_secret(name):
            text = "this header carries a secret, and headers stand in the routing table"
            yield Finding(
                place, text, "remove it, and name the secret under credentials (see credential_header)"
            )
        elif name.lower() in _OWN_HEADERS:
            yield Finding(place, "the proxy writes this header itself", "remove it")
        elif not headers.is_value(value):
            yield Finding(
                place, "the value has a line break or a letter outside ASCII", "write it on one line"
            )


def _serves(
    path: KeyPath, target: TargetSettings, providers: Mapping[str, ProviderSettings]
) -> Iterator[Finding]:
    provider = providers.get(target.provider)
    if target.serves == "embeddings" and provider is not None and provider.family == "anthropic":
        yield Finding(
            path, "the anthropic family has no embeddings", "write completions, or another provider"
        )


# --- routes


def _route(path: KeyPath, route: RouteSettings, settings: Settings, declared: Declared) -> Iterator[Finding]:
    yield from _weights((*path, "weights"), route.weights)
    unknown: list[Finding] = []
    for target in route.weights:
        unknown += _unknown((*path, "weights", target), target, declared.targets, "target")
    for index, target in enumerate(route.chain):
        unknown += _unknown((*path, "chain", index), target, declared.targets, "target")
    yield from unknown
    yield from _chain((*path, "chain"), route.chain)
    yield from _families(path, route, settings)
    yield from _sticky((*path, "sticky_by"), route.sticky_by)


def _weights(path: KeyPath, weights: Mapping[str, float]) -> Iterator[Finding]:
    if not weights:
        yield Finding(path, "the route has no targets", "write at least one target with its weight")
        return
    fine = {target: weight for target, weight in weights.items() if to_bp(weight) is None}
    for target, weight in fine.items():
        yield Finding(
            (*path, target), f"{plain(weight)} has more than two decimals", "round it to two decimals"
        )
    total_bp = sum(to_bp(weight) or 0 for weight in weights.values())
    if total_bp != FULL_BP and not fine:
        missing_bp = FULL_BP - total_bp
        cure = f"{'add' if missing_bp > 0 else 'take away'} {percent(abs(missing_bp)).removesuffix(' %')}"
        text = f"the weights sum to {percent(total_bp).removesuffix(' %')}, not 100"
        yield Finding(path, text, cure)


def _chain(path: KeyPath, chain: tuple[str, ...]) -> Iterator[Finding]:
    for target, count in Counter(chain).items():
        if count > 1:
            second = [index for index, name in enumerate(chain) if name == target][1]
            yield Finding((*path, second), "the target is in the chain twice", "remove one of the two")


def _families(path: KeyPath, route: RouteSettings, settings: Settings) -> Iterator[Finding]:
    """A route serves one protocol family: its first target's."""
    places = [((*path, "weights", target), target) for target in route.weights]
    places += [
        ((*path, "chain", index), target)
        for index, target in enumerate(route.chain)
        if target not in route.weights
    ]
    first = None
    for place, name in places:
        target = settings.targets.get(name)
        provider = settings.providers.get(target.provider) if target else None
        if provider is None:
            continue
        first = first or (name, provider.family)
        if provider.family != first[1]:
            text = f"the target speaks the {provider.family} family, and {dotted((first[0],))} the {first[1]} one"
            yield Finding(place, text, "give each family a route of its own")


def _sticky(path: KeyPath, sticky_by: tuple[str, ...]) -> Iterator[Finding]:
    for index, key in enumerate(sticky_by):
        kind, colon, name = key.partition(":")
        if key not in STICKY and not (kind == "header" and colon and headers.is_name(name)):
            cure = "write session, user, api_key, header:NAME or random"
            yield Finding((*path, index), "callers cannot be told apart by this", cure)
        elif key == "random" and index + 1 < len(sticky_by):
            yield Finding(
                (*path, index), "random always answers, so nothing after it is asked", "put it last"
            )


# --- policy and store


def _policy(policy: PolicySettings) -> Iterator[Finding]:
    for name in ("error_ratio_window_s", "window_s"):
        value = getattr(policy, name)
        if value % BUCKET_S:
            text = f"{plain(value)} s is not a multiple of {BUCKET_S} s, in which outcomes are counted"
            yield Finding(("policy", name), text, f"write {max(1, round(value / BUCKET_S)) * BUCKET_S}")
    if policy.error_ratio_window_s > policy.window_s:
        text = f"{plain(policy.error_ratio_window_s)} s is longer than window_s, {plain(policy.window_s)} s"
        yield Finding(("policy", "error_ratio_window_s"), text, "lower it, or raise window_s")


def _store(settings: Settings) -> Iterator[Finding]:
    store, endpoint = settings.store, settings.telemetry.otlp_endpoint
    if store.url is not None:
        yield from _store_url(("store", "url"), store.url)
    if store.embedded_binary is not None:
        yield from absolute(("store", "embedded_binary"), store.embedded_binary)
    if endpoint is not None:
        try:
            addresses.split_url(endpoint)
        except ValueError as error:
            cure = "write http://HOST:PORT, and a token as OTEL_EXPORTER_OTLP_HEADERS in the environment"
            yield Finding(("telemetry", "otlp_endpoint"), f"this is no OTLP endpoint: {error}", cure)


def _store_url(path: KeyPath, url: str) -> Iterator[Finding]:
    try:
        parts = urlsplit(url)
        has_place = bool(
            parts.path.strip("/") if parts.scheme == "unix" else parts.hostname and parts.port != 0
        )
        fits = url.isprintable() and parts.scheme in {"redis", "rediss", "unix"} and has_place
    except ValueError:
        fits = False
    if not fits:
        yield Finding(path, "this is no store's URL", "write redis://HOST:PORT/0, rediss://… or unix:///PATH")
    elif parts.password or "password" in parse_qs(parts.query, keep_blank_values=True):
        text = "the URL has a password in it, and URLs end up in logs"
        yield Finding(path, text, "take it out, and write store.password: env:NAME")
