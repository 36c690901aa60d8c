"""What several fields of the `rollouts` section say together."""

from collections.abc import Callable, Iterable, Iterator

from pointsman.config.errors import Finding, KeyPath, plain
from pointsman.config.models import Settings
from pointsman.config.rollouts import ENVIRONMENTS, RolloutSettings, StageSettings

Unknown = Callable[[KeyPath, str, Iterable[str], str], Iterator[Finding]]


def check_rollouts(
    settings: Settings, routes: frozenset[str], targets: frozenset[str], unknown: Unknown
) -> Iterator[Finding]:
    """Every finding about rollouts. `unknown` finds that a name is none of those that the file gives."""
    for name, rollout in settings.rollouts.items():
        path: KeyPath = ("rollouts", name)
        yield from unknown((*path, "route"), rollout.route, routes, "route")
        yield from unknown((*path, "from"), rollout.source, targets, "target")
        yield from unknown((*path, "to"), rollout.goal, targets, "target")
        yield from _ways(path, rollout, settings)
        yield from _order((*path, "stages"), [stage.environment for stage in rollout.stages])
        for index, stage in enumerate(rollout.stages):
            yield from _stage((*path, "stages", index), stage)


def _ways(path: KeyPath, rollout: RolloutSettings, settings: Settings) -> Iterator[Finding]:
    if rollout.source == rollout.goal:
        yield Finding((*path, "to"), "a rollout to where the traffic is moves nothing", "name another target")
    families = [_family(target, settings) for target in (rollout.source, rollout.goal)]
    if None not in families and families[0] != families[1]:
        text = f"the target speaks the {families[1]} family, and {rollout.source} the {families[0]} one"
        relies = tuple(("targets", target) for target in (rollout.source, rollout.goal))
        yield Finding((*path, "to"), text, "name a target of the same family", relies)


def _family(target: str, settings: Settings) -> str | None:
    known = settings.targets.get(target)
    provider = settings.providers.get(known.provider) if known else None
    return provider.family if provider else None


def _order(path: KeyPath, environments: list[str]) -> Iterator[Finding]:
    if not environments:
        yield Finding(path, "the rollout has no stages", "write at least one, with its environment")
    places = [ENVIRONMENTS.index(name) for name in environments]
    for index in range(1, len(places)):
        if places[index] == places[index - 1]:
            text = f"{environments[index]} has two stages"
            yield Finding((*path, index, "environment"), text, "remove one")
        elif places[index] < places[index - 1]:
            text = f"{environments[index]} comes after {environments[index - 1]}"
            cure = f"write the stages in the order {', '.join(ENVIRONMENTS)}"
            yield Finding((*path, index, "environment"), text, cure)


def _stage(path: KeyPath, stage: StageSettings) -> Iterator[Finding]:
    go, no_go = stage.go, stage.no_go
    for name in ("error_ratio", "latency_factor", "cost_factor"):
        most, too_much = getattr(go, name), getattr(no_go, name)
        if most is not None and too_much is not None and most > too_much:
            text = f"{plain(most)} would be go and {plain(too_much)} no-go"
            yield Finding((*path, "go", name), text, f"write at most no_go.{name}")
    least, too_few = go.cache_hit_ratio, no_go.cache_hit_ratio
    if least is not None and too_few is not None and least < too_few:
        text = f"{plain(least)} would be go and less than {plain(too_few)} no-go"
        yield Finding((*path, "go", "cache_hit_ratio"), text, "write at least no_go.cache_hit_ratio")
    if stage.soak_s is not None and stage.again_soak_s is not None and stage.again_soak_s < stage.soak_s:
        text = (
            f"{plain(stage.again_soak_s)} s after a rollback is less than {plain(stage.soak_s)} s before it"
        )
        yield Finding((*path, "again_soak_s"), text, "write at least soak_s")
