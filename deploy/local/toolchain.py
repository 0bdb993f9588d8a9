"""The programs that the native stack needs from the system.

Java for Kafka, Maven to fetch it, Node and npm for anvil and solc.

As root on Debian a missing one is installed with apt, after saying so; NO_INSTALL=1 refuses. Elsewhere one sentence
names the command that installs it. Nothing else of the system is ever changed.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from deploy.local.failure import LocalError

REFUSE_VARIABLE: Final = "NO_INSTALL"
APT_TIMEOUT_S: Final = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A program of the system, what it is for, and how it gets there."""

    program: str
    purpose: str
    debian: str  # package
    elsewhere: str  # what to install where there is no apt
    version_option: str = "--version"
    major_min: int = 0


TOOLS: Final = (
    Tool(
        program="java",
        purpose="runs Kafka",
        debian="default-jre-headless",
        elsewhere="a Java runtime, 17 or newer",
        version_option="-version",
        major_min=17,
    ),
    Tool(program="mvn", purpose="fetches Kafka", debian="maven", elsewhere="Apache Maven", version_option="-version"),
    Tool(
        program="node",
        purpose="runs the Solidity compiler",
        debian="nodejs",
        elsewhere="Node.js, 18 or newer",
        major_min=18,
    ),
    Tool(program="npm", purpose="fetches anvil and the compiler", debian="npm", elsewhere="npm"),
)


def problem(tool: Tool) -> str | None:
    """None when the tool is there and new enough; otherwise what is wrong."""
    found = shutil.which(tool.program)
    if found is None:
        return f"{tool.program} is missing ({tool.purpose})"
    if not tool.major_min:
        return None
    major = _major(tool)
    if major is None:
        return f"{found} does not tell its version"
    if major < tool.major_min:
        return f"{found} is version {major}; {tool.major_min} or newer is needed"
    return None


def ensure(say: Callable[[str], None]) -> None:
    """Makes sure that every tool is there. Raises LocalError with one line per missing tool."""
    missing = [tool for tool in TOOLS if problem(tool)]
    if not missing:
        return
    if why_not := _why_no_apt():
        raise LocalError(
            "programs are missing: " + "; ".join(str(problem(tool)) for tool in missing),
            why=why_not,
            do=remedy(missing),
        )
    packages = [tool.debian for tool in missing]
    say(f"installing with apt, because we are root on Debian: {' '.join(packages)} ({REFUSE_VARIABLE}=1 refuses)")
    _apt("update", "-q")
    _apt("install", "-y", "-q", "--no-install-recommends", *packages)
    if still := [tool for tool in TOOLS if problem(tool)]:
        raise LocalError(
            "apt installed its packages, yet: " + "; ".join(str(problem(tool)) for tool in still), do=remedy(still)
        )


def remedy(tools: list[Tool]) -> str:
    """How a person installs the tools."""
    if shutil.which("apt-get"):
        sudo = "" if os.geteuid() == 0 else "sudo "
        return f"{sudo}apt-get install {' '.join(tool.debian for tool in tools)}"
    if shutil.which("brew"):
        return "brew install openjdk maven node"
    return "install " + ", ".join(tool.elsewhere for tool in tools)


def _why_no_apt() -> str:
    """Empty when apt may be used; otherwise why not."""
    if os.environ.get(REFUSE_VARIABLE):
        return f"{REFUSE_VARIABLE} is set, so nothing is installed"
    if shutil.which("apt-get") is None:
        return "this system has no apt, so nothing is installed"
    if os.geteuid() != 0:
        return "only root may install, so nothing is installed"
    return ""


def _major(tool: Tool) -> int | None:
    try:
        done = subprocess.run(
            [tool.program, tool.version_option], capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r'(?:version "|^v)(\d+)', done.stdout + done.stderr, flags=re.MULTILINE)
    return int(match[1]) if match else None


def _apt(*arguments: str) -> None:
    command = ["apt-get", *arguments]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=environment,
            timeout=APT_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise LocalError(f"{' '.join(command)} did not end within {APT_TIMEOUT_S:.0f} s") from exc
    if done.returncode != 0:
        raise LocalError(f"{' '.join(command)} failed", why="\n".join((done.stdout + done.stderr).splitlines()[-8:]))
