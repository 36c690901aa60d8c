"""Rate-limit headers → how much is left. Pure.

Anthropic documents anthropic-ratelimit-{requests,tokens,…}-{limit,remaining,reset} with a reset as a date
(RFC 3339); OpenAI x-ratelimit-{limit,remaining,reset}-{requests,tokens} with a reset as a duration ("6m0s").
Azure has been seen to answer -1: negatives say nothing.
"""

import datetime as dt
import re
from collections.abc import Iterator, Mapping
from typing import Final

from pointsman.core.evidence import RateLimit

# Dimension, and the headers of its limit, of what remains, and of its reset.
_ANTHROPIC_NAMES: Final = tuple(
    (what, *(f"anthropic-ratelimit-{what}-{part}" for part in ("limit", "remaining", "reset")))
    for what in ("requests", "tokens", "input-tokens", "output-tokens")
)
_OPENAI_NAMES: Final = tuple(
    (what, *(f"x-ratelimit-{part}-{what}" for part in ("limit", "remaining", "reset")))
    for what in ("requests", "tokens")
)
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
_UNIT_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def tightest(headers: Mapping[str, str], now_s: float) -> RateLimit | None:
    """The dimension with the smallest fraction left, or None if no header says anything.

    `headers` have lower-case names; `now_s` (seconds since 1970) turns a reset's date into a duration.
    """
    return min(_limits(headers, now_s), key=lambda limit: limit.remaining_ratio, default=None)


def _limits(headers: Mapping[str, str], now_s: float) -> Iterator[RateLimit]:
    for dimension, limit, remaining, reset in _ANTHROPIC_NAMES:
        if limit in headers:
            reset_in_s = _date_s(headers.get(reset, ""), now_s)
            yield from _limit(dimension, headers[limit], headers.get(remaining), reset_in_s)
    for dimension, limit, remaining, reset in _OPENAI_NAMES:
        if limit in headers:
            reset_in_s = _duration_s(headers.get(reset, ""))
            yield from _limit(dimension, headers[limit], headers.get(remaining), reset_in_s)


def _limit(
    dimension: str, limit: str | None, remaining: str | None, reset_in_s: float
) -> Iterator[RateLimit]:
    most, left = _whole(limit), _whole(remaining)
    if most and left is not None:
        yield RateLimit(remaining_ratio=min(1.0, left / most), reset_in_s=reset_in_s, dimension=dimension)


def _whole(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _date_s(text: str, now_s: float) -> float:
    try:
        when = dt.datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return max(0.0, when.timestamp() - now_s) if when.tzinfo else 0.0


def _duration_s(text: str) -> float:
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION.findall(text[:40]))
