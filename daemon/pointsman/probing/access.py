"""What this process needs to probe a provider and a plan must not hold: credentials, certificates, prices, pace."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field

from pointsman import logs
from pointsman.config.models import PriceSettings, Settings
from pointsman.config.plan import Binding, credential_bindings
from pointsman.config.secrets import Secret, SecretError, resolve
from pointsman.core.cadence import ProbeTiming
from pointsman.core.model import Provider


@dataclass(frozen=True, slots=True)
class Access:
    """One provider's. `binding` None: it needs no credential. `missing`: why it cannot be probed from here."""

    timing: ProbeTiming = field(default_factory=ProbeTiming)
    binding: Binding | None = None
    secrets: tuple[Secret, ...] = ()
    tls: ssl.SSLContext | None = None
    prices: Mapping[str, PriceSettings] = field(default_factory=dict)
    missing: str = ""

    def obstacle(self, provider: Provider) -> str:
        """Why `provider` cannot be probed, "" if it can. A credential is not sent where it is not bound to."""
        if self.missing:
            return self.missing
        if self.binding is not None and not self.binding.allows(provider.base_url):
            return "its credential is not bound to the host that the active configuration names"
        return ""


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
