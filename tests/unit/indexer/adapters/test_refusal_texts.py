"""What nodes say when a range is too much, or when they are behind: the texts that were collected, each understood."""

from __future__ import annotations

import pytest

from deploy.runtime.rpc import connect
from indexer.adapters.node import Node, RpcError, named_limit
from indexer.errors import NodeBehind, NodeUnavailable, RangeTooLarge

NAMED = [
    ("eth_getLogs is limited to a 10,000 range", 10_000),
    ("You can make eth_getLogs requests with up to a 500 block range", 500),
    ("limited to 1000 block", 1000),
    ("requested too many blocks from 1 to 9000, maximum is set to 2048", 2048),
    ("Max range: 3500", 3500),
    ("maximum block range: 2000", 2000),
    ("please limit the query to at most 1000 blocks", 1000),
    ("query exceeds max block range 100000", 100_000),
    ("block range greater than 5000 max", 5000),
    ("block range exceeds 800", 800),
    ("exceed max block range: 50000", 50_000),
    ("maximum [from, to] blocks distance: 2000", 2000),
    ("block range too large (2000), maximum allowed is 1000 blocks", 1000),
    ("range is too large, max is 1k blocks", 1000),
    ("Maximum allowed number of requested blocks is 30000", 30_000),
    ("too wide blocks range, the limit is 100", 100),
]
HALVE = [
    "query returned more than 10000 results. Try with this block range [0x1, 0x2]",
    "Log response size exceeded. this block range should work: [0x1, 0x2]",
    "exceeds the range allowed for your plan (9000 > 1000)",
    "query exceeds max results",
    "logs matched by query exceeds limit of 10000",
    "backend response too large",
    "Block range is too large",
    "response size should not greater than 10000000 bytes",
    "ranges over 10000 blocks are not supported on freetier",
    "no backend is currently healthy",
    "Response is too big",
    "exceeded max allowed",
    "more than 10000 logs",
    "too many results",
    "query timeout exceeded",
    "request timed out",
]
BEHIND = [
    "requested from block 5 after last accepted block 4",
    "block range extends beyond current head block",
    "cannot query unfinalized data",
    "invalid block height",
    "header not found",
    "unknown block",
    "BlockOutOfRangeError: block height is 5 but requested was 9",
]


def classified(text: str, code: int = -32000) -> Exception:
    return Node(connect("http://127.0.0.1:1"))._classified("eth_getLogs", RpcError(code=code, message=text))


@pytest.mark.parametrize(("text", "limit"), NAMED)
def test_a_named_limit_is_read(text: str, limit: int) -> None:
    error = classified(text)
    assert isinstance(error, RangeTooLarge)
    assert error.blocks_max == named_limit(text) == limit


@pytest.mark.parametrize("text", HALVE)
def test_a_refusal_without_a_limit_is_still_a_refusal_of_the_range(text: str) -> None:
    assert isinstance(classified(text.upper()), RangeTooLarge)
    assert isinstance(classified(text), RangeTooLarge)


@pytest.mark.parametrize("text", BEHIND)
def test_a_node_that_is_behind_is_never_an_empty_answer(text: str) -> None:
    assert isinstance(classified(text), NodeBehind)


@pytest.mark.parametrize("text", ["", "execution aborted", "over rate limit", "Monthly capacity limit exceeded."])
def test_a_bare_error_says_nothing_about_the_range(text: str) -> None:
    error = classified(text, -32005)
    assert isinstance(error, NodeUnavailable)
    assert not isinstance(error, RangeTooLarge | NodeBehind)
