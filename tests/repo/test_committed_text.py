"""What must not be in any committed file: hosts of package registries, paths of somebody's machine, secrets."""

from __future__ import annotations

import re

import pytest

from tests.repo.tracked import text_of, tracked_files

# spelled in pieces, because this file is committed too
REGISTRIES = [
    r"\.".join(pieces)
    for pieces in (
        ("registry", "npmjs", "org"),
        ("registry", "yarnpkg", "com"),
        ("files", "pythonhosted", "org"),
        ("pypi", "org"),
        ("repo1?", "maven", "(apache|org)"),
        ("ghcr", "io"),
        ("quay", "io"),
        ("registry-1", "docker", "io"),
        ("deb", "debian", "org"),
        ("proxy", "golang", "org"),
    )
]
INDEX_OPTIONS = ["--" + option for option in ("index-url", "extra-index-url", "find-links", "trusted-host")]
MACHINE_PATHS = [
    "/" + name for name in (r"work/(main|shared)\b", r"tmp/scratch\b", r"home/(?!<)\w+/", r"Users/\w+/", r"root/\w")
]
SECRETS = ["-----BEGIN " + r"[A-Z ]*PRIVATE KEY", r"\bAKIA[0-9A-Z]{16}\b", r"\bghp_[A-Za-z0-9]{36}\b"]


@pytest.mark.parametrize(
    ("what", "patterns"),
    [
        ("a package registry's host", REGISTRIES),
        ("an option that names a package index", INDEX_OPTIONS),
        ("a path of one machine", MACHINE_PATHS),
        ("a secret", SECRETS),
    ],
)
def test_no_committed_file_names(what: str, patterns: list[str]) -> None:
    pattern = re.compile("|".join(patterns))
    offenders = [
        f"{path}:{number}: {line.strip()[:120]}"
        for path in tracked_files()
        for number, line in enumerate((text_of(path) or "").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert not offenders, f"{what} is committed:\n" + "\n".join(offenders)
