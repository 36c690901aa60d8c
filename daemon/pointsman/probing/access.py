"""What this process needs to probe a provider and a plan must not hold: credentials, certificates, prices, pace."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman import logs
from pointsman.config.models import PriceSettings, Settings
from pointsman.config.plan import Binding, credential_bindings
from pointsman.config.secrets import Secret, SecretError, resolve
from pointsman.core.cadence import ProbeTiming
from pointsman.core.model import Plan, Provider


@dataclass(frozen=True, slots=True)
class Access:
    """One provider's. `binding` None: it needs no credential. `missing`: why it cannot be probed from here."""

    timing: ProbeTiming = field(default_factory=ProbeTiming)
    binding: Binding | None = None
    secrets: tuple[Secret, ...] = ()
    tls: ssl.SSLContext | None = None
    prices: Mapping[str, PriceSettings] = field(default_factory=dict)
    missing: str = ""

    def allows(self, provider: Provider) -> bool:
        """May the credential, if there is one, be sent to where `provider` is?"""
        return self.binding is None or self.binding.allows(provider.base_url)

    def obstacle(self, provider: Provider) -> str:
        """Why `provider` cannot be probed, "" if it can. A credential is not sent where it is not bound to."""
        if self.missing:
            return self.missing
        if not self.allows(provider):
            return "its credential is not bound to the host that the active configuration names"
        return ""


class Accesses:
    """What our file gives access to (`own`), and what it gave before and the active plan still needs: `now`.

    A file that takes a provider away or moves it is read before the leader has agreed to it, and may be refused.
    """

    def __init__(self, own: Mapping[str, Access]) -> None:
        self._own = own
        self.now = own

    def reload(self, own: Mapping[str, Access], active: Plan | None) -> None:
        """Another file: what it adds or changes counts at once, what is gone from it stays while it is needed."""
        self._own = own
        self.now = keeping(own, self.now, active)

    def settle(self, active: Plan | None) -> bool:
        """Let go of what the active plan no longer needs; True if that was anything."""
        if self.now is self._own:
            return False
        before, self.now = self.now, keeping(self._own, self.now, active)
        return self.now != before


def keeping(
    own: Mapping[str, Access], before: Mapping[str, Access], active: Plan | None
) -> Mapping[str, Access]:
    """`own`, with what of `before` the `active` plan needs and `own` lacks; `own` itself if that is nothing.

    That is a provider, or where its credential may go. With no plan known everything that is gone is needed.
    """
    kept: dict[str, Access] = {}
    for name, old in before.items():
        mine = own.get(name)
        if active is None:
            needed = mine is None
        else:
            provider = active.providers.get(name)
            needed = (
                provider is not None and (mine is None or not mine.allows(provider)) and old.allows(provider)
            )
        if needed:
            kept[name] = old
    return {**own, **kept} if kept else own


def access_of(settings: Settings, env: Mapping[str, str] | None = None) -> dict[str, Access]:
    """Provider → its access, with every secret resolved and registered for redaction. Raises nothing.

    A secret or a certificate that cannot be read is a reason in `missing`: the others are probed all the same.
    `env` stands in for this process's environment.
    """
    bindings = credential_bindings(settings)
    return {name: _access(name, settings, bindings.get(name), env) for name in settings.providers}


def _access(name: str, settings: Settings, binding: Binding | None, env: Mapping[str, str] | None) -> Access:
    provider = settings.providers[name]
    found: list[Secret] = []
    problems: list[str] = []
    for ref in binding.refs if binding else ():
        try:
            found.append(resolve(ref, env))
        except SecretError as error:
            problems.append(str(error))
    for secret in found:
        logs.register_secret(secret.reveal())
    # One of two credentials is enough: the other may be on its way in or out.
    missing = "; ".join(problems) if problems and not found else ""
    tls = None
    if provider.ca_file is not None:
        try:
            tls = ssl.create_default_context(cafile=provider.ca_file)
        except OSError as error:
            missing = missing or f"ca_file {provider.ca_file} cannot be used: {error.strerror or error}"
    return Access(
        timing=ProbeTiming(**provider.probe.model_dump()),
        binding=binding,
        secrets=tuple(found),
        tls=tls,
        prices={key: target.prices for key, target in settings.targets.items() if target.provider == name},
        missing=missing,
    )
