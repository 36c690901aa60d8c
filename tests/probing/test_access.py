"""What this daemon may probe with after another file was read: the old for as long as it is needed."""

from typing import Any

from servers import settings_of

from pointsman.config.models import Settings
from pointsman.config.plan import to_plan
from pointsman.probing.access import Accesses, access_of

HERE, ELSEWHERE = "http://127.0.0.1:{0}/v1", "http://127.0.0.2:{0}/v1"
ENV = {"KEY": "key-old", "OTHER": "key-new"}


def settings(names: str = "a b", **changes: dict[str, Any]) -> Settings:
    """Providers of these names, each with a target of its name."""
    return settings_of(
        {
            name: {
                "family": "openai",
                "base_url": HERE.format(11 + place),
                "credentials": ("env:KEY",),
                **changes.get(name, {}),
            }
            for place, name in enumerate(names.split())
        },
        {name: {"provider": name, "model": "m"} for name in names.split()},
    )


def after(*files: Settings, active: Settings | None) -> Accesses:
    """The accesses of the first file after the others were read while `active` was the plan."""
    first, *others = files
    made = Accesses(access_of(first, ENV))
    for file in others:
        made.reload(access_of(file, ENV), active and to_plan(active))
    return made


def test_a_provider_of_the_active_plan_stays() -> None:
    """Its file has it no more, and the leader has not agreed."""
    old, new = settings("a b"), settings("a")
    access = after(old, new, active=old)
    plan = to_plan(old)
    assert not access.settle(plan)
    assert all(not access.now[name].obstacle(plan.providers[name]) for name in "ab")


def test_it_stays_while_further_files_are_read() -> None:
    """A second reload is no reason to forget it."""
    old, new = settings("a b"), settings("a")
    access = after(old, new, new, active=old)
    assert set(access.now) == {"a", "b"}


def test_it_stays_while_no_plan_is_known() -> None:
    """A daemon that has not read the store yet does not know what it will need."""
    access = after(settings("a b"), settings("a"), active=None)
    assert set(access.now) == {"a", "b"}
    assert not access.settle(None)


def test_it_goes_with_the_plan_that_has_it() -> None:
    """Once, and it does not come back with another plan."""
    old, new = settings("a b"), settings("a")
    access = after(old, new, active=old)
    assert access.settle(to_plan(new))
    assert set(access.now) == {"a"}
    assert not access.settle(to_plan(old))
    assert set(access.now) == {"a"}


def test_a_provider_that_moves_is_probed_where_the_plan_has_it() -> None:
    """With the credential that is bound there."""
    old, new = settings(), settings(b={"base_url": ELSEWHERE.format(12), "credentials": ("env:OTHER",)})
    access = after(old, new, active=old)
    assert [secret.reveal() for secret in access.now["b"].secrets] == ["key-old"]
    assert not access.now["b"].obstacle(to_plan(old).providers["b"])
    assert access.settle(to_plan(new))
    assert [secret.reveal() for secret in access.now["b"].secrets] == ["key-new"]
    assert access.now["b"].obstacle(to_plan(old).providers["b"])


def test_what_is_new_or_changed_counts_at_once() -> None:
    """Another credential for the same host, and a provider that no plan has yet."""
    old, new = settings(), settings("a b c", a={"credentials": ("env:OTHER",)})
    access = after(old, new, active=old)
    assert [secret.reveal() for secret in access.now["a"].secrets] == ["key-new"]
    assert "c" in access.now
    assert not access.settle(to_plan(old))
