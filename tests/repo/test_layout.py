"""The layout of the repository is a promise to whoever looks for something: it is kept here."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.repo.tracked import PACKAGES, ROOT, text_of, tracked_files

TOP_LEVEL = {
    *("pyproject.toml", "README.md", "Makefile", "LICENSE", "CHANGELOG.md", "requirements.lock"),
    *("indexer", "ledger", "contracts", "deploy", "tests"),
}
BANNED_NAMES = {"utils", "util", "helpers", "helper", "common", "misc"}
LINES_MAX = 600
SOURCE_SUFFIXES = {".py", ".sql", ".sol", ".sh", ".mjs", ".md"}


def test_the_top_level_has_exactly_what_the_design_names() -> None:
    found = {path.parts[0] for path in tracked_files()}
    assert {name for name in found if not name.startswith(".")} == TOP_LEVEL


def test_no_file_or_folder_is_called_after_nothing() -> None:
    offenders = [path for path in tracked_files() if BANNED_NAMES & {Path(part).stem.lower() for part in path.parts}]
    assert not offenders


def test_no_source_file_is_longer_than_the_limit() -> None:
    lengths = {
        path: len((text_of(path) or "").splitlines()) for path in tracked_files() if path.suffix in SOURCE_SUFFIXES
    }
    assert not {str(path): lines for path, lines in lengths.items() if lines > LINES_MAX}


def test_every_folder_of_tests_is_a_package() -> None:
    folders = {path.parent for path in tracked_files() if path.parts[0] == "tests" and path.suffix == ".py"}
    assert not [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()]


def test_every_python_folder_of_the_packages_is_a_package() -> None:
    folders = {path.parent for path in tracked_files() if path.parts[0] in PACKAGES and path.suffix == ".py"}
    assert not [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()]


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_opens_with_a_tour(package: str) -> None:
    tree = ast.parse((ROOT / package / "__init__.py").read_text(encoding="utf-8"))
    tour = ast.get_docstring(tree) or ""
    assert len(tour.splitlines()) >= 5, "tell what it guarantees, how data flows, where to read next"


def test_every_module_says_what_it_is() -> None:
    modules = [path for path in tracked_files() if path.parts[0] in PACKAGES and path.suffix == ".py"]
    silent = [str(path) for path in modules if path.name != "__init__.py" and not _docstring(path)]
    assert not silent


def _docstring(path: Path) -> str | None:
    return ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8")))
