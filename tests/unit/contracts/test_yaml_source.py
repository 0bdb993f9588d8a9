"""YAML as descriptions use it: a small subset, with the line of everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.problems import RegistryError, suggestion
from contracts.yaml_source import YamlSource, read_yaml


def read(folder: Path, content: str | bytes) -> YamlSource:
    file = folder / "x.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_yaml(file)


def test_values_are_what_they_look_like(tmp_path: Path) -> None:
    texts = "a: 0xAB\nb: NO\nc: 1.0\ng: '12'\nh: 012\ni: 2024-01-01\n31337: x\n"
    source = read(tmp_path, texts + "d: 12\ne: true\nf: null\nj: -5\n")
    expected = {"a": "0xAB", "b": "NO", "c": "1.0", "g": "12", "h": "012", "i": "2024-01-01", 31337: "x"}
    assert source.value == expected | {"d": 12, "e": True, "f": None, "j": -5}


def test_every_path_has_its_line(tmp_path: Path) -> None:
    source = read(tmp_path, "a:\n  - b: 1\n  - c: 2\n    d: {e: 3,\n        f: 4}\n")
    assert source.line(("a", 0, "b")) == 2
    assert source.line(("a", 1, "d", "f")) == 5
    assert source.line(("a", 1, "missing", "deeper")) == 3
    assert source.line(("unknown",)) == 1


@pytest.mark.parametrize(
    ("content", "line", "says"),
    [
        ("a: 1\na: 2\n", 2, "twice"),
        ("a: &x [1]\nb: *x\n", 1, "anchor"),
        ("a: 1\n---\nb: 2\n", 1, "more than one"),
        ("a:\n  - [\n", 3, "not YAML"),
        ("? [1]\n: 2\n", 1, "not a name"),
        (b"a: \xff\n", 1, "not UTF-8"),
        (b"a: \x00\n", 0, "not YAML"),
        ("[" * 50 + "]" * 50, 1, "too deeply"),
    ],
)
def test_what_is_outside_the_subset_is_refused_with_its_line(
    tmp_path: Path, content: str | bytes, line: int, says: str
) -> None:
    with pytest.raises(RegistryError) as caught:
        read(tmp_path, content)
    (problem,) = caught.value.problems
    assert says in problem.what
    assert problem.line == line


def test_an_empty_file_is_no_value(tmp_path: Path) -> None:
    assert read(tmp_path, "# nothing\n").value is None


def test_suggestions_name_what_is_near_or_what_there_is() -> None:
    assert suggestion("recieved", ["received", "asset"]) == "did you mean 'received'?"
    assert suggestion("zzz", ["b", "a"]) == "use one of: a, b"
    assert suggestion("zzz", []) == "there is none to choose from"
