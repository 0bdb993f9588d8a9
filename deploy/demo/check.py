"""The independent checker: every balance again from raw receipts, then compared with SQL.

It shares nothing with the services: no import of theirs, not their ABI files, descriptions or posting rules. Events are
decoded from the signatures in ``check_events.py``, postings follow the table in ``check_postings.py``; both are written
by hand from what the contracts do. So an error in a description, a decoder, a posting rule or the ledger shows up here.

    python -m deploy.demo.check --rpc http://127.0.0.1:8545 --dsn postgresql://… --deployment deployment.json

Exit codes: 0 equal, 1 a difference, 3 the node or the database is away. Amounts are integers in base units throughout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import asyncpg
from eth_utils.crypto import keccak

from deploy.demo.check_events import NATIVE, Deployment, Event, event_id, read_event
from deploy.demo.check_postings import Balances, Chart, asset_id, balances_of, is_ours
from deploy.demo.statements import STATEMENTS


class Unreachable(Exception):
    """The node or the database does not answer."""


def compare_balances(expected: Balances, actual: Balances) -> list[str]:
    """One line for each account and asset that differs, whichever side has it."""
    lines = []
    for key in sorted(expected.keys() | actual.keys()):
        ours, theirs = expected.get(key, 0), actual.get(key, 0)
        if ours != theirs:
            lines.append(f"{key[0]} {key[1]}: receipts say {ours}, SQL says {theirs} (debits − credits)")
    return lines


def compare_events(expected: Iterable[str], actual: Iterable[str]) -> list[str]:
    """One line for each event id that only one side has, or that SQL has twice."""
    ours, theirs = set(expected), list(actual)
    lines = [f"event {each} is in the receipts, not in SQL" for each in sorted(ours - set(theirs))]
    lines += [f"event {each} is in SQL, not in the receipts" for each in sorted(set(theirs) - ours)]
    if len(theirs) != len(set(theirs)):
        lines.append(f"SQL has {len(theirs) - len(set(theirs))} events more than once")
    return lines


def check_sequence(events: Iterable[Event], last: int) -> list[str]:
    """The gateway numbers its money events without gaps: all numbers up to ``last``, each once, in chain order."""
    numbers = [event.args["seq"] for event in events if event.source == "gateway" and "seq" in event.args]
    if numbers == list(range(1, last + 1)):
        return []
    return [f"the receipts have {len(numbers)} money events, numbered otherwise than 1…{last} (eventSeq)"]


# --- the outside ------------------------------------------------------------------------------------------------------


class Node:
    """Plain JSON-RPC over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    def call(self, method: str, *params: Any) -> Any:
        """Raises Unreachable."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
        request = urllib.request.Request(self._url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - the caller's node
        try:
            with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - as above
                answer = json.load(response)
        except (OSError, ValueError) as exc:
            raise Unreachable(f"{self._url} does not answer {method}: {exc}") from exc
        if answer.get("error") or answer.get("result") is None:
            raise Unreachable(f"{self._url} refuses {method}: {answer.get('error')}")
        return answer["result"]

    def view(self, to: str, signature: str, block: int, *args: str) -> int:
        """A view function that returns one number; ``args`` are addresses."""
        data = keccak(text=signature)[:4] + b"".join(bytes.fromhex(arg[2:]).rjust(32, b"\0") for arg in args)
        return int(self.call("eth_call", {"to": to, "data": "0x" + data.hex()}, hex(block)), 16)

    def events(self, deployment: Deployment, *, to_block: int) -> list[Event]:
        """Every event of ours in the receipts of the canonical chain, in order."""
        events = []
        for number in range(to_block + 1):
            for receipt in self.call("eth_getBlockReceipts", hex(number)):
                events += [event for log in receipt["logs"] if (event := read_event(log, deployment))]
        return events


def check_custody(node: Node, deployment: Deployment, expected: Balances, *, block: int) -> list[str]:
    """What the chain says that each contract holds, against the custody that follows from receipts."""
    lines = []
    for address, book in deployment.books.items():
        for asset in (NATIVE, *deployment.tokens):
            if asset == NATIVE:
                held = int(node.call("eth_getBalance", address, hex(block)), 16)
            else:
                held = node.view(asset, "balanceOf(address)", block, address)
            key = (Chart(book, address, asset).custody, asset_id(asset, deployment.chain_id))
            if held != expected.get(key, 0):
                lines.append(f"{key[0]} {key[1]}: the chain holds {held}, receipts say {expected.get(key, 0)}")
    return lines


async def check(node: Node, dsn: str, deployment: Deployment) -> dict[str, Any]:
    """Compares the chain with the books: final balances at their block, latest ones at the head, events, custody.

    Raises Unreachable.
    """
    try:
        connection = await asyncpg.connect(dsn, timeout=20)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                final = await connection.fetchval(STATEMENTS["final_block"])
                booked = {
                    basis: _rows(await connection.fetch(STATEMENTS["balances"], basis)) for basis in ("latest", "final")
                }
                event_ids = [row["event_id"] for row in await connection.fetch(STATEMENTS["standing_events"])]
        finally:
            await connection.close()
    except (OSError, TimeoutError, asyncpg.PostgresError) as exc:
        raise Unreachable(f"the database does not answer: {exc}") from exc
    if final is None:
        raise Unreachable("the ledger has no final block yet")
    head = int(node.call("eth_blockNumber"), 16)
    events = node.events(deployment, to_block=head)
    ours = [event for event in events if is_ours(event, deployment)]
    until_final = balances_of((event for event in ours if event.block_number <= final), deployment)
    latest = balances_of(ours, deployment)
    differences = [
        *(f"final: {line}" for line in compare_balances(until_final, booked["final"])),
        *(f"latest: {line}" for line in compare_balances(latest, booked["latest"])),
        *compare_events((event_id(event, deployment.chain_id) for event in ours), event_ids),
        *check_sequence(ours, node.view(deployment.gateway, "eventSeq()", head)),
        *check_custody(node, deployment, until_final, block=final),
    ]
    return {
        "head": head,
        "final": final,
        "receipts_events": len(ours),
        "sql_events": len(event_ids),
        "balances": len(until_final.keys() | booked["final"].keys()),
        "money_events": sum("seq" in event.args for event in ours),
        "differences": differences,
    }


def _rows(rows: list[asyncpg.Record]) -> Balances:
    return {(row["account"], row["asset_code"]): int(row["net"]) for row in rows}


def main(arguments: list[str] | None = None) -> int:
    """Prints JSON; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.demo.check", description=__doc__)
    parser.add_argument("--rpc", required=True, help="the node's URL")
    parser.add_argument("--dsn", required=True, help="the ledger's database, for a role that may read finance")
    parser.add_argument("--deployment", required=True, type=Path, help="JSON with chain_id, gateway, vault and tokens")
    given = parser.parse_args(arguments)
    try:
        result = asyncio.run(check(Node(given.rpc), given.dsn, Deployment.read(given.deployment)))
    except Unreachable as exc:
        sys.stderr.write(f"{exc}\n")
        return 3
    sys.stdout.write(json.dumps(result, indent=1) + "\n")
    return 1 if result["differences"] else 0


if __name__ == "__main__":
    sys.exit(main())
