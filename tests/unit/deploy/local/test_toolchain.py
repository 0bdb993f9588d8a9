"""Programs of the system.

What is missing or too old is named with the command that helps; apt only where it may be used.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local import toolchain
from deploy.local.failure import LocalError

Install = Callable[..., None]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """A PATH of our own, with the programs that a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("NO_INSTALL", raising=False)

    def install(**scripts: str) -> None:
        for name, body in scripts.items():
            path = tmp_path / name.replace("_", "-")
            path.write_text(f"#!/bin/sh\n{body}\n", encoding="ascii")
            path.chmod(0o755)

    return install


def everything(install: Install, **instead: str) -> None:
    usual = {"java": "echo 'openjdk version \"17.0.15\"' >&2", "mvn": "", "node": "echo v20.1.0", "npm": ""}
    install(**{**usual, **instead})


def said() -> tuple[list[str], Callable[[str], None]]:
    lines: list[str] = []
    return lines, lines.append


def test_nothing_is_installed_when_all_is_there(programs: Install) -> None:
    everything(programs, apt_get="exit 1")
    lines, say = said()
    toolchain.ensure(say)
    assert lines == []


@pytest.mark.parametrize(
    ("tool", "script", "says"),
    [
        ("java", "echo 'openjdk version \"11.0.2\"' >&2", "is version 11; 17 or newer is needed"),
        ("node", "echo v16.20.0", "is version 16; 18 or newer is needed"),
        ("node", "exit 1", "does not tell its version"),
    ],
)
def test_a_program_that_does_not_serve_is_told_with_its_version(
    programs: Install, tool: str, script: str, says: str
) -> None:
    everything(programs, **{tool: script})
    with pytest.raises(LocalError) as caught:
        toolchain.ensure(lambda _line: None)
    assert says in str(caught.value)


def test_who_is_not_root_gets_the_command_in_one_sentence(programs: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    programs(apt_get="exit 1")
    with pytest.raises(LocalError) as caught:
        toolchain.ensure(lambda _line: None)
    assert "java is missing (runs Kafka)" in str(caught.value)
    assert "→ sudo apt-get install default-jre-headless maven nodejs npm" in str(caught.value)


def test_no_install_refuses_even_for_root(programs: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setenv("NO_INSTALL", "1")
    programs(apt_get="echo must not run; exit 9")
    with pytest.raises(LocalError, match="NO_INSTALL is set, so nothing is installed"):
        toolchain.ensure(lambda _line: None)


def test_root_on_debian_installs_what_is_missing_after_saying_so(
    programs: Install, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    everything(programs, node="exit 1", apt_get=_apt_that_installs_node(tmp_path))
    lines, say = said()
    toolchain.ensure(say)
    assert lines == ["installing with apt, because we are root on Debian: nodejs (NO_INSTALL=1 refuses)"]
    asked = (tmp_path / "asked").read_text(encoding="ascii").splitlines()
    assert asked == ["update -q", "install -y -q --no-install-recommends nodejs"]


def test_an_apt_that_fails_is_quoted(programs: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    programs(apt_get="echo 'E: Unable to locate package'; exit 100")
    with pytest.raises(LocalError, match="Unable to locate package"):
        toolchain.ensure(lambda _line: None)


def _apt_that_installs_node(folder: Path) -> str:
    return f'echo "$*" >> {folder}/asked; printf "#!/bin/sh\\necho v22.0.0\\n" > {folder}/node'
