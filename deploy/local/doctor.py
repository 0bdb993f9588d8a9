"""``make doctor``: looks at everything that the stack needs, and changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from deploy.local import engine, ports, setup, toolchain
from deploy.local.configuration import LocalSettings, remembered
from deploy.local.failure import LocalError
from deploy.local.native import account, postgres
from deploy.local.native.anvil import find_binary
from deploy.local.paths import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. ``do`` is empty when it is well."""

    subject: str
    found: str
    do: str = ""


def examine(layout: Layout, settings: LocalSettings) -> Iterator[Finding]:
    """Every finding, good and bad."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding(
        subject="python", found=version, do="" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    )
    for tool in toolchain.TOOLS:
        wrong = toolchain.problem(tool)
        yield Finding(subject=tool.program, found=wrong or "there", do=toolchain.remedy([tool]) if wrong else "")
    for step in setup.steps(layout, lambda _line: None):
        done = setup.is_done(step, layout)
        yield Finding(
            subject="fetched", found=f"{step.name}{'' if done else ': missing'}", do="" if done else "make setup"
        )
    yield _found("anvil", lambda: str(find_binary(layout.node_modules)))
    yield _found("postgres", lambda: str(postgres.find_programs()))
    yield _found("account", lambda: _runs_as(account.unprivileged()))
    reason = engine.why_no_engine()
    yield Finding(subject="docker", found=f"{reason}: native processes are used" if reason else "an engine answers")
    if remembered(layout) is None:
        yield from _ports(settings)


def _found(subject: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(subject=subject, found=look())
    except LocalError as exc:
        return Finding(subject=subject, found=exc.what, do=exc.do or "make setup")


def _runs_as(user: account.Account | None) -> str:
    return f"PostgreSQL runs as {user.name}, because we are root" if user else "PostgreSQL runs as ourselves"


def _ports(settings: LocalSettings) -> Iterator[Finding]:
    for name in ("kafka_port", "kafka_controller_port", "postgres_port", "anvil_port"):
        port = getattr(settings, name)
        free = ports.is_free(port)
        variable = f"CHAINBOOKS_LOCAL_{name.upper()}"
        yield Finding(
            subject=name.replace("_", " "),
            found=f"{port} is free" if free else f"{port} is taken: {ports.holder(port)}",
            do="" if free else f"stop that process, or choose another port with {variable}=<port>",
        )
