"""What a fake provider does is what the error taxonomy takes it for."""

from typing import Any

import pytest

from pointsman.core.errors import of_response, of_stream_error
from pointsman.fake import FakeProvider, Fault

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("status", "code", "retry_after_s", "expected"),
    [
        (400, "", None, "caller"),
        (401, "", None, "credential"),
        (402, "", None, "quota"),
        (404, "", None, "caller"),
        (413, "", None, "caller"),
        (422, "", None, "caller"),
        (429, "", 30, "rate_limit"),
        (429, "ramp_limit_exceeded", 30, "capacity"),
        (429, "insufficient_quota", None, "quota"),
        (429, "enforced_spend_limit_reached", None, "quota"),
        (500, "", None, "outage"),
        (503, "", None, "overload"),
        (504, "", None, "outage"),
        (529, "", None, "overload"),
    ],
)
async def test_errors(
    fake: FakeProvider, caller: Any, status: int, code: str, retry_after_s: float | None, expected: str
) -> None:
    """An error of either family is classed as the outage that it rehearses."""
    fake.set_faults(Fault(kind="status", status=status, code=code, retry_after_s=retry_after_s))
    async with caller.post() as answer:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        outcome = of_response(answer.status, headers, await answer.json())
    assert outcome.fault == expected
    assert outcome.retry_after_s == retry_after_s


@pytest.mark.parametrize(("status", "expected"), [(None, "overload"), (429, "rate_limit"), (500, "outage")])
async def test_error_events(fake: FakeProvider, caller: Any, status: int | None, expected: str) -> None:
    """An error inside a 200 is classed as the status that it stands for."""
    fake.set_faults(Fault(kind="error_event", stream=False, status=status))
    async with caller.post() as answer:
        assert answer.status == 200
        assert of_stream_error(await answer.json()).fault == expected
