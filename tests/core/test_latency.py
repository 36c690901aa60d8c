"""The histogram of latencies."""

import pytest

from pointsman.core.latency import LATENCY_EDGES_MS, latency_cell


@pytest.mark.parametrize(
    ("latency_ms", "cell"), [(0.0, 0), (1.0, 0), (1.1, 1), (2.0, 1), (600_000, 45), (600_001, 46), (1e12, 46)]
)
def test_latency_cells(latency_ms: float, cell: int) -> None:
    """A latency falls into the first cell whose upper edge is not below it; the last cell takes the rest."""
    assert latency_cell(latency_ms) == cell


def test_latency_edges() -> None:
    """Edges grow, and the thresholds that rules name are exact edges."""
    assert list(LATENCY_EDGES_MS) == sorted(set(LATENCY_EDGES_MS))
    assert {500, 1_000, 1_500, 3_000, 5_000, 20_000, 30_000} <= set(LATENCY_EDGES_MS)
    assert len(LATENCY_EDGES_MS) == 46
