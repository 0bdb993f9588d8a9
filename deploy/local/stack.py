"""Up, down and status of the whole stack, as containers or as native processes.

``up`` prefers containers when an engine answers and has or can pull the images; it says which it took and why. What was
started is remembered, so that ``down`` and ``status`` look at the same. Running ``up`` again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from deploy.local import compose, configuration
from deploy.local.configuration import CHAIN_ID, DATABASE, LocalSettings, Running
from deploy.local.daemon import Daemon
from deploy.local.failure import LocalError
from deploy.local.native import server
from deploy.local.native.anvil import Anvil, find_binary
from deploy.local.native.kafka import Kafka
from deploy.local.native.postgres import Postgres
from deploy.local.paths import Layout

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartStatus:
    """One line of ``make status``."""

    name: str
    where: str
    state: Literal["ready", "not ready", "down"]
    detail: str


def native_parts(layout: Layout, settings: LocalSettings) -> tuple[Kafka, Postgres, Anvil]:
    """The three parts as processes of this machine; nothing is started."""
    mining = () if settings.block_time_s == "on-demand" else ("--block-time", f"{settings.block_time_s:g}")
    return (
        Kafka(
            daemon=Daemon(name="kafka", folder=layout.run),
            folder=layout.data / "kafka",
            jars=layout.kafka_jars,
            port=settings.kafka_port,
            controller_port=settings.kafka_controller_port,
            heap_mb=settings.kafka_heap_mb,
        ),
        Postgres(
            daemon=Daemon(name="postgres", folder=layout.run),
            home=layout.data / "postgres",
            port=settings.postgres_port,
            password=configuration.superuser_password(layout),
        ),
        Anvil(
            daemon=Daemon(name="anvil", folder=layout.run),
            binary=_anvil(layout),
            port=settings.anvil_port,
            options=(
                "--silent",  # else five lines a block
                *mining,
                *("--slots-in-an-epoch", str(settings.slots_in_an_epoch)),
                *("--state", str(layout.data / "anvil.json")),  # the chain survives down and up, as topics and books do
            ),
            chain_id=CHAIN_ID,
        ),
    )


def _anvil(layout: Layout) -> Path:
    """anvil's binary, or where it ought to be: down and status must work when it is gone."""
    try:
        return find_binary(layout.node_modules)
    except LocalError:
        return layout.node_modules / "@foundry-rs" / "anvil"


def up(layout: Layout, settings: LocalSettings, say: Say) -> Running:
    """Starts what does not run and waits until all of it is ready. Raises LocalError."""
    running = configuration.remembered(layout)
    if running is not None and running.settings != settings:
        why = "\n".join(configuration.differing(running.settings, settings))
        raise LocalError("the stack was started with other settings", why=why, do="make down first")
    try:
        return _up(layout, settings, running, say)
    except BaseException:
        started = configuration.remembered(layout)
        if running is None and started is not None and started.mode == "native":
            layout.state.unlink()  # nothing of it runs any more: the next try may have other settings
        raise


def _up(layout: Layout, settings: LocalSettings, running: Running | None, say: Say) -> Running:
    if running is None:
        reason = compose.why_not()
        say("starting containers" if reason is None else f"starting native processes ({reason})")
        running = Running(
            mode="docker" if reason is None else "native",
            settings=settings,
            password=configuration.superuser_password(layout),
        )
        configuration.remember(layout, running)
    kafka, postgres, anvil = native_parts(layout, settings)
    if running.mode == "docker":
        compose.up(running)
        compose.await_ready((kafka, postgres, anvil), timeout_s=settings.start_timeout_s)
    else:
        server.start((kafka, postgres, anvil), timeout_s=settings.start_timeout_s)
    postgres.create_database(DATABASE)
    configuration.write(layout, running)
    return running


def down(layout: Layout, say: Say) -> None:
    """Stops all parts and keeps their data. Doing it again is fine."""
    running = configuration.remembered(layout)
    if running is not None and running.mode == "docker":
        compose.down(running)
        say("containers stopped")
    settings = running.settings if running else configuration.local_settings()
    for part in reversed(native_parts(layout, settings)):  # native ones too: a stack that was only half up leaves them
        if part.stop():
            say(f"{part.daemon.name} stopped")
    layout.state.unlink(missing_ok=True)


def status(layout: Layout) -> list[PartStatus]:
    """How each part is now."""
    running = configuration.remembered(layout)
    settings = running.settings if running else configuration.local_settings()
    return [_status(part, running) for part in native_parts(layout, settings)]


def _status(part: server.Server, running: Running | None) -> PartStatus:
    name = part.daemon.name
    pid = part.daemon.pid()
    container = running is not None and running.mode == "docker"
    if running is None or (pid is None and not container):
        return PartStatus(name=name, where=part.endpoint, state="down", detail="")
    reason = part.probe()
    detail = "container" if container else f"pid {pid}"
    return PartStatus(
        name=name,
        where=part.endpoint,
        state="ready" if reason is None else "not ready",
        detail=detail if reason is None else f"{detail}: {reason}",
    )
