"""Judges the state that a consumer of reorg.ndjson ends in: prints what differs, and what it means.

    python contracts/examples/check.py STATE.json

``-`` reads standard input; a second argument names another expectation than reorg.state.json. Exit codes: 0 the state
is right, 1 it differs, 2 it is no state. README.md tells its form. Needs nothing but Python's standard library.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXPECTED = Path(__file__).with_name("reorg.state.json")

MEANING = {
    "counted": "events that count at the end, with their revision: the highest one decides, odd counts",
    "paid": "Σ gross of the InvoicePaid that count, by correlation.invoice, base units as text",
    "revoked": "events whose newest record is `revoked`: event_id → incident_id",
    "actions": "acted after 3 confirmations (events) or at once (final); taken back what had been acted on",
    "complete_through": "latest of the last watermark, by partition",
}


def differences(actual: dict[str, Any], expected: dict[str, Any]) -> Iterator[str]:
    """One line each. The order of objects' fields and of actions does not matter."""
    for topic, parts in expected.items():
        for name, wanted in parts.items():
            found = actual.get(topic, {}).get(name)
            if name == "actions":
                yield from _actions(f"{topic}.{name}", found or [], wanted)
            else:
                yield from _object(f"{topic}.{name}", found or {}, wanted)


def _object(where: str, found: dict[str, Any], wanted: dict[str, Any]) -> Iterator[str]:
    for key in sorted(wanted.keys() | found.keys()):
        if found.get(key) != wanted.get(key):
            yield f"{where}.{key}: is {_text(found.get(key))}, must be {_text(wanted.get(key))}"


def _actions(where: str, found: list[Any], wanted: list[Any]) -> Iterator[str]:
    done, due = Counter(map(_text, found)), Counter(map(_text, wanted))
    for action in sorted(due - done):
        yield f"{where}: is missing {action}"
    for action in sorted(done - due):
        yield f"{where}: must not have {action}"


def _text(value: Any) -> str:
    return "absent" if value is None else json.dumps(value, sort_keys=True)


def main(arguments: list[str]) -> int:
    """Compares and prints."""
    if not 1 <= len(arguments) <= 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        text = sys.stdin.read() if arguments[0] == "-" else Path(arguments[0]).read_text(encoding="utf-8")
        expected = Path(arguments[1]) if len(arguments) == 2 else EXPECTED
        found = list(differences(json.loads(text), json.loads(expected.read_text(encoding="utf-8"))))
    except (OSError, ValueError, AttributeError, TypeError) as exc:
        print(f"{arguments[0]} cannot be judged: {type(exc).__name__}: {exc}", file=sys.stderr)
        return 2
    for line in found:
        print(line)
    for name in sorted({line.split(":")[0].split(".")[1] for line in found}):
        print(f"→ {name}: {MEANING[name]}")
    print(f"{len(found)} differences" if found else "the state is right")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
