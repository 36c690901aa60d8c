"""The `rollouts` section: the runbooks' times, and what the core is given."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from pointsman.config.export import export
from pointsman.config.models import Settings
from pointsman.config.plan import to_plan
from pointsman.config.sources import from_data, load
from pointsman.core.rollout_model import Bounds, RolloutPlan

DAY_S = 86_400.0


def settings_of(**rollout: Any) -> Settings:
    names = ("direct", "gateway")
    return from_data(
        {
            "providers": {n: {"family": "openai", "base_url": f"https://{n}.example/v1"} for n in names},
            "targets": {n: {"provider": n, "model": "large"} for n in names},
            "routes": {"chat": {"weights": {"direct": 100}}},
            "rollouts": {"gateway": {"route": "chat", "from": "direct", "to": "gateway", **rollout}},
        }
    )


def planned(**rollout: Any) -> RolloutPlan:
    return to_plan(settings_of(**rollout)).rollouts["gateway"]


def test_the_runbooks_times() -> None:
    """24 h, 48 h and 7 days; after a rollback 24 h, 72 h and 14 days."""
    stages = planned().stages

    assert [(stage.environment, stage.soak_s / DAY_S, stage.again_soak_s / DAY_S) for stage in stages] == [
        ("development", 1, 1),
        ("staging", 2, 3),
        ("production", 7, 14),
    ]


def test_what_is_asked_by_default() -> None:
    """Errors and latency of every stage; cost and cache hits where they are wanted."""
    plan = planned()

    assert (plan.route, plan.source, plan.goal, plan.report_hour) == ("chat", "direct", "gateway", 9)
    assert {stage.go for stage in plan.stages} == {Bounds(error_ratio=0.02, latency_factor=1.5)}
    assert {stage.no_go for stage in plan.stages} == {Bounds(error_ratio=0.05, latency_factor=2.0)}
    assert {(stage.min_requests, stage.approval) for stage in plan.stages} == {(100, False)}


def test_everything_that_is_written_counts() -> None:
    """Each setting of a stage, also null for what is not asked."""
    written = {
        "environment": "staging", "soak_s": 60.0, "again_soak_s": 90.0, "min_requests": 7, "approval": True,
        "go": {"error_ratio": None, "latency_factor": None, "cost_factor": 0.4, "cache_hit_ratio": 0.6},
        "no_go": {"error_ratio": 0.3, "latency_factor": 9.0, "cost_factor": 1.0, "cache_hit_ratio": 0.4},
    }  # fmt: skip
    plan = planned(stages=[written], report_hour=0)
    (stage,) = plan.stages

    assert plan.report_hour == 0
    assert (stage.environment, stage.soak_s, stage.again_soak_s) == ("staging", 60.0, 90.0)
    assert (stage.min_requests, stage.approval) == (7, True)
    assert stage.go == Bounds(cost_factor=0.4, cache_hit_ratio=0.6)
    assert stage.no_go == Bounds(error_ratio=0.3, latency_factor=9.0, cost_factor=1.0, cache_hit_ratio=0.4)


@pytest.mark.parametrize(("soak_s", "again_s"), [(60.0, 3 * DAY_S), (9 * DAY_S, 9 * DAY_S)])
def test_it_never_gets_shorter_after_a_rollback(soak_s: float, again_s: float) -> None:
    """Whichever is longer: what was written, or what the runbook says."""
    (stage,) = planned(stages=[{"environment": "staging", "soak_s": soak_s}]).stages

    assert stage.again_soak_s == again_s


def test_an_exported_rollout_loads_again(tmp_path: Path) -> None:
    """With its keys as they are written: from and to."""
    settings = settings_of(stages=[{"environment": "staging", "go": {"cache_hit_ratio": 0.6}}])
    path = tmp_path / "exported.yaml"
    path.write_text(export(settings))

    assert yaml.safe_load(path.read_text())["rollouts"]["gateway"]["from"] == "direct"
    assert load(path, {}).rollouts == settings.rollouts


def test_another_rollout_is_another_plan() -> None:
    """A reload sees it."""
    assert to_plan(settings_of()).digest != to_plan(settings_of(report_hour=8)).digest
