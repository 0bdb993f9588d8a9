"""Pairing of headers with balances."""

from __future__ import annotations

from deploy.demo.latency import pair, summarise


def test_only_blocks_that_both_sides_saw_count() -> None:
    assert pair({(1, "a"): 1000, (2, "b"): 1100}, {2: 1130.5, 3: 1200.0}, blocks=range(1, 10)) == [30.5]


def test_a_number_that_a_reorg_used_twice_counts_once_as_first_received() -> None:
    assert pair({(1, "b"): 5000, (1, "a"): 1000}, {1: 1040.0}, blocks=range(1, 2)) == [40.0]


def test_percentiles_are_of_the_nearest_rank() -> None:
    latency = summarise([float(number) for number in range(200, 0, -1)])
    assert latency is not None
    assert (latency.blocks, latency.p50_ms, latency.p99_ms, latency.max_ms) == (200, 100.0, 198.0, 200.0)


def test_one_sample_is_all_percentiles_and_none_gives_none() -> None:
    latency = summarise([7.0])
    assert latency is not None
    assert latency.p50_ms == latency.p99_ms == 7.0
    assert summarise([]) is None
