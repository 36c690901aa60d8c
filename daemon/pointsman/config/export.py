"""Settings → the YAML text that gives them again."""

import re
from collections.abc import Mapping
from typing import Any, Final

import yaml

from pointsman.config.document import RESOLVERS, TAG
from pointsman.config.models import Settings
from pointsman.config.plan import to_percent
from pointsman.core.table import FULL_BP


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would take for something else than text."""

    def ignore_aliases(self, data: Any) -> bool:
        """Everything is written out: a file for people has no anchors that nobody wrote."""
        return True


for _kind, _pattern, _first in RESOLVERS:
    _Dumper.add_implicit_resolver(TAG + _kind, re.compile(_pattern), list(_first) or [""])

_HEADER: Final = "# Written by `pointsman config export`; what is not here has its default.\n"


def with_baselines(settings: Settings, baselines: Mapping[str, Mapping[str, int]]) -> Settings:
    """The settings with the weights (basis points per target) that hold now in place of the file's.

    A baseline that does not fit its route any more (an unknown target, another sum) leaves the file's weights.
    """
    routes = {}
    for name, route in settings.routes.items():
        shares = baselines.get(name, {})
        fits = sum(shares.values()) == FULL_BP and shares.keys() <= settings.targets.keys()
        weights = {target: float(to_percent(share)) for target, share in shares.items()}
        routes[name] = route.model_copy(update={"weights": weights}) if fits else route
    return settings.model_copy(update={"routes": routes})


def export(settings: Settings, baselines: Mapping[str, Mapping[str, int]] | None = None) -> str:
    """The YAML text whose loading gives `settings` with the baselines (route → target → basis points)."""
    data = with_baselines(settings, baselines or {}).model_dump(mode="json", exclude_defaults=True)
    for route in data["routes"].values():
        route["weights"] = {
            target: int(weight) if weight == int(weight) else weight
            for target, weight in route["weights"].items()
        }
    text: str = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return _HEADER + text
