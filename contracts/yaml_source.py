"""YAML with positions: plain values plus the line of every key and item, so that an error can name its place.

A small, safe subset on purpose: no tags, no anchors, no duplicate keys; only decimal integers, ``true``, ``false``
and ``null`` are anything but text. So ``0xab…`` stays an address, ``NO`` stays a symbol and ``1.0`` stays text (money
is never a float).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from contracts.problems import Problem, RegistryError

FILE_BYTES_MAX = 8 * 1024 * 1024
"""A description is written by people; a larger file is a mistake."""

DEPTH_MAX = 40

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\Z")
_PLAIN = {"true": True, "false": False, "null": None, "~": None, "": None}

Path_ = tuple[str | int, ...]
"""Where a value stands: keys and indices from the top of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class YamlSource:
    """The content of one file and the line (from 1) of every path in it."""

    file: str
    value: Any
    lines: dict[Path_, int]

    def line(self, path: Sequence[str | int]) -> int:
        """The line of a path, or of the nearest thing around it."""
        known = tuple(path)
        while known and known not in self.lines:
            known = known[:-1]
        return self.lines.get(known, 1)


class _Refused(Exception):
    def __init__(self, line: int, what: str, do: str) -> None:
        self.line, self.what, self.do = line, what, do


def read_yaml(file: Path) -> YamlSource:
    """Raises ``RegistryError`` with file and line for anything that is not in the subset, OSError included."""
    try:
        content = file.read_bytes()
    except OSError as exc:
        reason = exc.strerror or type(exc).__name__
        raise RegistryError(
            [_problem(file, 0, f"cannot be read ({reason})", "check the path and its permissions")]
        ) from exc
    if len(content) > FILE_BYTES_MAX:
        raise RegistryError([_problem(file, 0, f"has {len(content)} bytes", f"split it below {FILE_BYTES_MAX} bytes")])
    try:
        text = content.decode("utf-8")
        nodes = yaml.compose_all(text, Loader=_Loader)
        first = next(nodes, None)
        if next(nodes, None) is not None:
            raise _Refused(1, "has more than one YAML document", "put each description into its own file")
        lines: dict[Path_, int] = {(): 1}
        value = None if first is None else _value(first, (), lines, set())
    except UnicodeDecodeError as exc:
        line = content[: exc.start].count(b"\n") + 1
        raise RegistryError([_problem(file, line, "is not UTF-8", "save the file as UTF-8")]) from exc
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark
        raise RegistryError(
            [
                _problem(
                    file,
                    mark.line + 1 if mark else 0,
                    f"is not YAML ({exc.problem})",
                    "check the indentation and quotes",
                )
            ]
        ) from exc
    except yaml.YAMLError as exc:
        raise RegistryError([_problem(file, 0, f"is not YAML ({exc})", "check for control characters")]) from exc
    except _Refused as exc:
        raise RegistryError([_problem(file, exc.line, exc.what, exc.do)]) from exc
    return YamlSource(file=str(file), value=value, lines=lines)


def _problem(file: Path, line: int, what: str, do: str) -> Problem:
    return Problem(file=str(file), line=line, field="", what=what, do=do)


def _value(node: yaml.Node, path: Path_, lines: dict[Path_, int], seen: set[int]) -> Any:
    line = node.start_mark.line + 1
    if id(node) in seen:
        raise _Refused(line, "uses an anchor (&) and alias (*)", "write the value out")
    seen.add(id(node))
    if len(path) > DEPTH_MAX:
        raise _Refused(line, "is nested too deeply", f"stay within {DEPTH_MAX} levels")
    lines.setdefault(path, line)
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), lines, seen) for index, item in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode)
    return _mapping(node, path, lines, seen)


def _mapping(node: yaml.MappingNode, path: Path_, lines: dict[Path_, int], seen: set[int]) -> dict[str | int, Any]:
    mapping: dict[str | int, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        key = _scalar(key_node) if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str | int) or isinstance(key, bool):
            raise _Refused(line, "has a key that is not a name or a number", "use plain keys")
        if key in mapping:
            raise _Refused(line, f"has the key {key!r} twice", "remove one of them")
        lines[(*path, key)] = line
        mapping[key] = _value(value_node, (*path, key), lines, seen)
    return mapping


def _scalar(node: yaml.ScalarNode) -> str | int | bool | None:
    text: str = node.value
    if node.style is not None and node.style != "":
        return text
    if text in _PLAIN:
        return _PLAIN[text]
    if _DECIMAL.match(text) and len(text) <= 78:
        return int(text)
    return text
