"""The commands that people and machines run: import rules, make's help, and what continuous integration does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from indexer.__main__ import commands as indexer_commands
from ledger.__main__ import commands as ledger_commands
from tests.repo.tracked import ROOT


def test_nobody_imports_what_the_design_forbids() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_make_help_lists_every_target_that_a_person_runs() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE)) - {"setup-python"}
    phony = re.search(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    assert phony is not None
    assert targets == set(phony[1].split())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert targets == set(re.findall(r"^  ([a-z][a-z-]*) ", shown, flags=re.MULTILINE))


def test_continuous_integration_runs_exactly_make_test() -> None:
    lines = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    commands = [line for line in lines if re.search(r"\bmake\b", line) and not line.startswith("#")]
    assert commands == ["exec make test </dev/null"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_shell_scripts_are_posix() -> None:
    for script in (ROOT / ".ci" / "run", ROOT / "deploy" / "local" / "bootstrap.sh"):
        subprocess.run(["sh", "-n", script], check=True)


PROGRAMS = {"chainbooks-indexer": indexer_commands, "chainbooks-ledger": ledger_commands}


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_help_of_a_program_teaches_how_to_begin_where_settings_come_from_and_what_exit_codes_mean(
    program: str,
) -> None:
    shown = " ".join(CliRunner().invoke(PROGRAMS[program], ["--help"]).output.split())
    for text in ("Begin with: ", "--config", ".env.example", "2 usage or settings", "4 latched"):
        assert text in shown, text
