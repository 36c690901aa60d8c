"""The one layout of latency histograms."""

from bisect import bisect_left
from typing import Final

# Upper edges in milliseconds, about ×1.25 apart, with exact edges at the thresholds that rules and runbooks name (500,
# 1,000, 1,500, 3,000, 5,000, 20,000, 30,000). The last cell is everything above.
LATENCY_EDGES_MS: Final[tuple[int, ...]] = (
    1, 2, 3, 5, 8, 10, 13, 16, 20, 25, 32, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400, 500, 630, 800,
    1_000, 1_250, 1_500, 2_000, 2_500, 3_000, 4_000, 5_000, 6_300, 8_000, 10_000, 12_500, 16_000, 20_000,
    25_000, 30_000, 40_000, 60_000, 120_000, 300_000, 600_000,
)  # fmt: skip
# Compared with latencies all the time: whole numbers would be turned into these each time.
_EDGES: Final[tuple[float, ...]] = tuple(float(edge) for edge in LATENCY_EDGES_MS)


def latency_cell(latency_ms: float) -> int:
    """The histogram cell of a latency: the first whose upper edge is not below it."""
    return bisect_left(_EDGES, latency_ms)
