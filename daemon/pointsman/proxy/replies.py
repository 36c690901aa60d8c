"""What a caller is told: by the proxy itself when nobody served the request, and beside a provider's own answer."""

import math

from msgspec import Struct

from pointsman.core.errors import Effect, Fault, Outcome
from pointsman.proxy.api import FALLBACK_EXHAUSTED, Reply, error_response
from pointsman.proxy.books import Account
from pointsman.proxy.forward import Way, home_model
from pointsman.proxy.job import Job
from pointsman.proxy.judging import Head, Whole


class Tried(Struct, frozen=True):
    """A target that did not serve the request, and why."""

    target: str
    outcome: Outcome


# A target that has as many requests from this proxy as it may, or whose provider has as many connections.
FULL = Outcome(Fault.ABANDONED, "at its limit of requests at once")
NO_CONNECTION = Outcome(Fault.ABANDONED, "at its provider's limit of connections")
SUSPENDED = "nearly everything fails now, and falling over is suspended (proxy.retry_budget)"
SENT_ONCE = "its body is too large to be kept for a second attempt (proxy.replay_mb)"


def answer_lines(head: Head, job: Job, account: Account, number: int) -> bytes:
    """The headers of an answer, and those that tell where it came from."""
    own = (
        f"x-pointsman-request-id: {job.id}\r\nx-pointsman-table: {job.view.version}\r\n"
        f"x-pointsman-target: {account.endpoint.target}\r\nx-pointsman-attempt: {number}\r\n"
        f"x-pointsman-reason: {account.reason}\r\n"
    )
    return head.lines + own.encode("latin-1", "replace")


def goes_on(answer: Whole, way: Way) -> bool:
    """Is the next target to be asked after this answer."""
    if answer.ok or way is Way.STAYS:
        return False
    return answer.outcome.falls_over or (way is Way.SOUGHT and answer.unknown_here)


def told(refusals: list[tuple[Whole, Account, int]], tried: list[Tried]) -> tuple[Whole, Account, int] | None:
    """What is passed on of a vain search: who could not say, or else, if none was out of reach, that none knows it."""
    unsure = [refusal for refusal in refusals if not refusal[0].unknown_here]
    complete = len(refusals) == len(tried)
    return next(iter(unsure or (refusals if complete else ())), None)


def exhausted(job: Job, tried: list[Tried], why: str = "") -> Reply:
    """No target could serve the request: the family's own error, naming each target and why; `why` none is left."""
    route = job.view.table.routes[job.route]
    if tried and all(one.outcome is FULL or one.outcome is NO_CONNECTION for one in tried):
        bounded = ((FULL, "requests"), (NO_CONNECTION, "connections"))
        what = " or ".join(word for full, word in bounded if any(one.outcome is full for one in tried))
        message = f"every target of {job.route} has as many {what} from this proxy as it may: ask again"
        headers = job.own_headers | {"x-should-retry": "true", "retry-after": "1"}
        return error_response(job.family, 503, message, headers=headers)
    if tried:
        told = "; ".join(f"{one.target}: {one.outcome.detail}" for one in tried)
        message = f"no target of {job.route} answered ({told})" + (f"; {why}" if why else "")
    elif job.of_account:
        message = (
            f"this proxy cannot reach the account that {job.route} keeps files, batches and responses at"
        )
    elif job.embeds and not route.closed:
        model = home_model(job) or "its configured first target, which this proxy does not know"
        message = (
            f"{job.route} has no target to send to that serves {model}: embeddings of two models do not mix"
        )
    else:
        message = (
            f"{job.route} has no target to send to: {route.closed or 'none has a credential on this proxy'}"
        )
    headers = job.own_headers | {"x-should-retry": "false"} | _retry_after(tried)
    return error_response(job.family, 502, message, FALLBACK_EXHAUSTED, headers)


def going_down(job: Job) -> Reply:
    """This proxy ends, and nothing of an answer has been passed on yet: another one may give it."""
    headers = job.own_headers | {"x-should-retry": "true", "retry-after": "1"}
    return error_response(job.family, 503, "this proxy is going down; ask again", headers=headers)


def failed_here(job: Job) -> Reply:
    """The proxy itself has failed."""
    message = "the proxy failed on this request; its log says why"
    return error_response(job.family, 500, message, headers=job.own_headers)


def _retry_after(tried: list[Tried]) -> dict[str, str]:
    """When every target is throttled, the first of them to be back says when to come again."""
    waits_s = [one.outcome.retry_after_s or 1.0 for one in tried if one.outcome.effect is Effect.THROTTLE]
    if not tried or len(waits_s) < len(tried):
        return {}
    return {"retry-after": str(math.ceil(min(waits_s)))}
