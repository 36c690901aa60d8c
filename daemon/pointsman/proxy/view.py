"""A table made ready for routing: validated, with this proxy's own credentials bound to its targets. Immutable.

The table comes from the store, and the store is not trusted with keys: a credential goes only to the hosts that
this proxy's own configuration names for its provider, and never in the clear where the configuration says https.
"""

import functools
import ssl
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from pointsman.config import addresses
from pointsman.config.models import PriceSettings, Settings
from pointsman.config.plan import Binding, credential_bindings, full_chain
from pointsman.config.secrets import SecretError, resolve
from pointsman.core.headers import is_name, is_value
from pointsman.core.table import Table, TargetEntry
from pointsman.logs import register_secret
from pointsman.proxy.headers import name_of, never_from_table, written
from pointsman.proxy.routing import Endpoint, Origin, View

Credentials = tuple[dict[str, str], ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Trust:
    """What this proxy's own configuration says: where credentials may go, and what only it knows of targets."""

    bindings: Mapping[str, Binding]
    origins: Mapping[str, str]
    tls: Mapping[str, ssl.SSLContext]
    prices: Mapping[str, PriceSettings]
    bounds: Mapping[str, int] = field(default_factory=dict)
    connections: Mapping[str, int] = field(default_factory=dict)
    home: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings) -> "Trust":
        """From the settings. Raises OSError when a CA file cannot be read (ssl.SSLError: is no certificate)."""
        return cls(
            bindings=credential_bindings(settings),
            origins={name: addresses.origin(p.base_url) for name, p in settings.providers.items()},
            tls={
                name: ssl.create_default_context(cafile=p.ca_file)
                for name, p in settings.providers.items()
                if p.ca_file is not None
            },
            prices={name: target.prices for name, target in settings.targets.items()},
            bounds={name: target.max_in_flight for name, target in settings.targets.items()},
            connections={name: provider.max_connections for name, provider in settings.providers.items()},
            home={name: full_chain(route)[0] for name, route in settings.routes.items()},
        )

    def keeping(self, before: "Trust", table: Table) -> "Trust":
        """This, with what of `before` the `table` still needs: this itself if it needs nothing of that.

        A file that takes a provider away or moves it says so before the leader has agreed to it, and may be
        refused. Nothing that is served gets more than it has: what another table does not need is gone for good.
        """
        providers = {
            name
            for name in {entry.provider for entry in table.targets.values()}
            if self.refuses(name, table) and not before.refuses(name, table)
        }
        targets = {name for name in table.targets if name not in self.prices and name in before.prices}
        routes = {
            name
            for name, first in before.home.items()
            if name in table.routes and (name not in self.home or first in targets)
        }
        if not (providers or targets or routes):
            return self
        return Trust(
            bindings=_mixed(self.bindings, before.bindings, providers),
            origins=_mixed(self.origins, before.origins, providers),
            tls=_mixed(self.tls, before.tls, providers),
            prices=_mixed(self.prices, before.prices, targets),
            bounds=_mixed(self.bounds, before.bounds, targets),
            connections=_mixed(self.connections, before.connections, providers),
            home=_mixed(self.home, before.home, routes),
        )

    def refuses(self, provider: str, table: Table) -> bool:
        """Is nothing of the provider allowed where the table has it?"""
        return all(self.refusal(entry) for entry in table.targets.values() if entry.provider == provider)

    def refusal(self, entry: TargetEntry) -> str:
        """Why nothing may be sent to `entry`, or ""."""
        if entry.provider not in self.origins:
            return f"provider {entry.provider} is not in this proxy's configuration"
        try:
            origin = addresses.origin(entry.base_url)
        except ValueError as error:
            return f"the table's base URL of {entry.provider} is refused: {error}"
        if not all(is_name(name) and is_value(value) for name, value in entry.headers.items()):
            return f"the table's headers of {entry.provider} are refused: one cannot be written on one line"
        binding = self.bindings.get(entry.provider)
        allowed = binding.origins if binding else {self.origins[entry.provider]}
        if origin not in allowed:
            known = ", ".join(sorted(allowed))
            return f"{origin} is not where the configuration allows {entry.provider} to be: {known}"
        return ""

    def credentials(self, provider: str) -> Credentials:
        """One set of headers for each credential that is there. Raises SecretError if there should be one."""
        binding = self.bindings.get(provider)
        if binding is None:
            return ({},)
        found: list[dict[str, str]] = []
        missing: SecretError | None = None
        for ref in binding.refs:
            try:
                text = resolve(ref).reveal()
            except SecretError as error:
                missing = missing or error
                continue
            register_secret(text)
            found.append({binding.header: binding.value(text)})
        if missing is not None and not found:
            raise missing
        return tuple(found)


def _mixed(own: Mapping[str, T], before: Mapping[str, T], names: Collection[str]) -> dict[str, T]:
    """What is called by one of `names` as it was before, and the rest of our own."""
    kept = {name: value for name, value in before.items() if name in names}
    return {name: value for name, value in own.items() if name not in names} | kept


def compile_view(table: Table, trust: Trust, *, proxy: str, deadlines: Mapping[str, float]) -> View:
    """Bind credentials to every target. A target that cannot be served is `missing`; the others are served."""
    endpoints: dict[str, Endpoint] = {}
    missing: dict[str, str] = {}
    known: dict[str, Credentials] = {}
    for name, entry in table.targets.items():
        why = trust.refusal(entry)
        if not why and entry.provider not in known:
            try:
                known[entry.provider] = trust.credentials(entry.provider)
            except SecretError as error:
                why = str(error)
        if why:
            missing[name] = why
        else:
            endpoints[name] = _endpoint(name, entry, trust, known[entry.provider])
    return View(
        table=table,
        endpoints=endpoints,
        missing=missing,
        grants={trial.target: trial.grant for trial in table.trials if trial.proxy == proxy},
        deadlines=dict(deadlines),
        home=trust.home,
    )


def _endpoint(name: str, entry: TargetEntry, trust: Trust, credentials: Credentials) -> Endpoint:
    constant = {key: value for key, value in entry.headers.items() if not never_from_table(key)}
    parts = addresses.split_url(entry.base_url)
    tls = (trust.tls.get(entry.provider) or _verifying()) if parts.scheme == "https" else None
    first = {"Host": parts.netloc, "Accept-Encoding": "identity"}
    return Endpoint(
        target=name,
        provider=entry.provider,
        model=entry.model,
        family=entry.family,
        base_url=entry.base_url,
        generation=entry.generation,
        origin=Origin(parts.hostname or "", parts.port or addresses.DEFAULT_PORTS[parts.scheme], tls),
        own_lines=tuple(written(first | constant | credential) for credential in credentials),
        overridden=frozenset(
            key.lower() for key in (*constant, *credentials[0]) if name_of(key.encode()).to_provider
        ),
        prices=trust.prices.get(name) or PriceSettings(),
        max_in_flight=trust.bounds.get(name, 0),
        max_connections=trust.connections.get(entry.provider, 0),
    )


@functools.cache
def _verifying() -> ssl.SSLContext:
    """For providers with a certificate that the system trusts. Loading those takes a while, so that it is done once."""
    return ssl.create_default_context()
