"""requirements.lock holds what pyproject.toml asks for, and all that those need. Checked without a network."""

from __future__ import annotations

import json
import re
import tomllib
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.repo.tracked import ROOT

LOCKED = re.compile(r"^(?P<name>[A-Za-z0-9_.-]+)==(?P<version>[^ ;\\]+)(?: ; (?P<marker>[^\\]+))?", flags=re.MULTILINE)


def _lock() -> dict[str, str]:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    return {canonicalize_name(match["name"]): match["version"] for match in LOCKED.finditer(text)}


def _asked() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [Requirement(line) for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]]


def test_everything_asked_for_is_locked_in_a_version_that_fits() -> None:
    locked = _lock()
    for requirement in _asked():
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not locked: make lock"
        assert requirement.specifier.contains(version, prereleases=True), (
            f"{requirement} is locked as {version}: make lock"
        )


def test_what_is_locked_needs_nothing_that_is_not() -> None:
    locked = _lock()
    missing = set()
    for requirement in _asked():
        missing |= _unlocked(canonicalize_name(requirement.name), requirement.extras, locked, set())
    assert not missing, "make lock"


def test_what_is_installed_is_what_is_locked() -> None:
    locked = _lock()
    for requirement in _asked():
        if requirement.marker is None or requirement.marker.evaluate():
            name = canonicalize_name(requirement.name)
            assert metadata.version(name) == locked[name], f"{name}: make setup"


def test_every_locked_version_has_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)
    assert not [block.split("\n")[0] for block in blocks if LOCKED.match(block) and "--hash=sha256:" not in block]


def _unlocked(name: str, extras: set[str], locked: dict[str, str], seen: set[str]) -> set[str]:
    """Names that an installed distribution needs here, directly or not, and that the lock does not have."""
    if name in seen:
        return set()
    seen.add(name)
    if name not in locked:
        return {name}
    missing: set[str] = set()
    for line in metadata.requires(name) or []:
        needed = Requirement(line)
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in [*extras, ""]):
            missing |= _unlocked(canonicalize_name(needed.name), needed.extras, locked, seen)
    return missing


def test_anvil_is_not_left_out_on_the_node_of_debian() -> None:
    """npm drops an optional package whose ``engines`` do not fit; anvil is a binary, and needs no Node at all."""
    lock = json.loads((ROOT / "deploy" / "local" / "node" / "package-lock.json").read_text(encoding="utf-8"))
    anvils = {name: package for name, package in lock["packages"].items() if "/anvil-" in name}
    assert len(anvils) == 4
    assert not [name for name, package in anvils.items() if "engines" in package or not package["optional"]]


def test_the_npm_lock_names_no_address() -> None:
    lock = json.loads((ROOT / "deploy" / "local" / "node" / "package-lock.json").read_text(encoding="utf-8"))
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
