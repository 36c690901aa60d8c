"""What one environment reads of another in the same store."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from pointsman.core.model import Decision, State
from pointsman.core.rollout_model import (
    ReportKind,
    Rollout,
    RolloutPhase,
    RolloutReport,
    Seen,
    StageNews,
    StagePlan,
)
from pointsman.store import codec, elsewhere
from pointsman.store.client import Lease, Store
from pointsman.store.keys import Keys

pytestmark = pytest.mark.anyio

NOTHING = Seen(since_s=1.0)
STAGE = StagePlan(environment="development", soak_s=60.0, again_soak_s=90.0)
ROLLOUT = Rollout(
    name="gateway", route="chat", source="direct", goal="gateway", stage=STAGE, report_hour=9, owner="ann",
    reason="cheaper", created_s=1.0, phase=RolloutPhase.GO, since_s=2.0, looked_s=2.0, total=NOTHING, week=NOTHING,
    day=NOTHING, hour=NOTHING, attempt=3, decided_s=7.0, before_bp={"direct": 10_000},
)  # fmt: skip
REPORT = RolloutReport(
    rollout="gateway", kind=ReportKind.STAGE, environment="development", route="chat", source="direct",
    goal="gateway", attempt=3, phase=RolloutPhase.GO, began_s=1.0, since_s=1.0, at_s=7.0, requests=9,
)  # fmt: skip
STATE = State(rollouts={"gateway": ROLLOUT}, reports={"gateway": (REPORT,)})
Decide = Callable[..., Decision]


@pytest.fixture
async def production(store_url: str, keys: Keys):  # noqa: ANN201
    """The store of another environment of the same installation."""
    other = replace(keys, environment="production")
    async with Store.connect(store_url, other, timeout_s=5.0) as connected:
        yield connected
        await connected.clear()


def waiting(environment: str = "development") -> State:
    """A state in which one rollout waits for that environment, and another for nobody."""
    one = replace(ROLLOUT, phase=RolloutPhase.WAITING, previous=environment)
    return State(rollouts={"gateway": one, "second": replace(ROLLOUT, name="second", previous=environment)})


async def test_a_rollout_is_saved_and_loaded(store: Store, lease: Lease, decide: Decide) -> None:
    """With its reports, each in a field of its own."""
    saved = await store.save(lease, None, decide(STATE))

    assert (saved.rollouts, saved.reports) == (STATE.rollouts, STATE.reports)
    loaded = await store.load_state()
    assert loaded == saved
    assert codec.changes(None, STATE).put.keys() >= {"o:gateway", "n:gateway"}


async def test_the_environment_before_is_read(
    store: Store, production: Store, lease: Lease, decide: Decide
) -> None:
    """Of what waits only: how it stands there, when that was decided, and what it moves."""
    await store.save(lease, None, decide(STATE))
    news = await production.elsewhere.awaited(waiting())

    assert news == (
        StageNews(
            rollout="gateway",
            environment="development",
            phase="go",
            moves=("chat", "direct", "gateway"),
            attempt=3,
            decided_s=7.0,
        ),
    )


async def test_an_environment_that_has_not_begun(production: Store) -> None:
    """Nothing is there: that is told, and is no failure."""
    (news,) = await production.elsewhere.awaited(waiting("staging"))

    assert news.told == "staging has not begun, as far as this store knows"
    assert (news.environment, news.phase) == ("staging", "")


async def test_an_environment_that_cannot_be_read(
    store: Store, production: Store, lease: Lease, decide: Decide
) -> None:
    """What another version has written, or somebody else, ends no decision of ours."""
    await store.save(lease, None, decide(STATE))
    await production._wire.write("HSET", store._keys.state, f"{elsewhere.FIELD}:gateway", b'{"name": 7}')
    (news,) = await production.elsewhere.awaited(waiting())

    assert news.told.startswith("what development says cannot be read: ")
    assert news.phase == ""


async def test_nobody_waits(production: Store) -> None:
    """Then nothing is asked."""
    assert await production.elsewhere.awaited(State(rollouts={"second": ROLLOUT})) == ()
