"""The stack as containers: ``deploy/compose.yaml``, driven through ``docker compose``.

The images come from CHAINBOOKS_KAFKA_IMAGE, CHAINBOOKS_POSTGRES_IMAGE and CHAINBOOKS_ANVIL_IMAGE, else from the
defaults in compose.yaml; anvil's is built from ``deploy/local/node`` where it is missing. The data is in volumes of
the engine.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from functools import cache
from typing import Final

from deploy.local import engine
from deploy.local.configuration import CHAIN_ID, Running
from deploy.local.failure import LocalError
from deploy.local.native.server import POLL_S, Server
from deploy.local.paths import REPOSITORY

FILE: Final = REPOSITORY / "deploy" / "compose.yaml"
PROJECT: Final = os.environ.get("COMPOSE_PROJECT_NAME") or "chainbooks"
SERVICES: Final = ("kafka", "postgres", "anvil")
BUILD_TIMEOUT_S: Final = 300.0
COMMAND_TIMEOUT_S: Final = 120.0
IMAGES: Final = {
    "CHAINBOOKS_KAFKA_IMAGE": "apache/kafka:4.1.0",
    "CHAINBOOKS_POSTGRES_IMAGE": "postgres:18",
    "CHAINBOOKS_ANVIL_IMAGE": "chainbooks-anvil:1.7.1",
}


def images() -> dict[str, str]:
    """The image of each variable, as it will be used."""
    return {variable: os.environ.get(variable) or default for variable, default in IMAGES.items()}


def why_not() -> str | None:
    """None when the stack can run as containers; otherwise the reason. Pulls and builds, with a limit."""
    if reason := engine.why_no_engine():
        return reason
    if not _command():
        return "docker compose is not installed"
    wanted = images()
    if reason := engine.why_no_images([wanted["CHAINBOOKS_KAFKA_IMAGE"], wanted["CHAINBOOKS_POSTGRES_IMAGE"]]):
        return reason
    if engine.has_image(wanted["CHAINBOOKS_ANVIL_IMAGE"]):
        return None
    built = _compose("build", "--quiet", "anvil", environment={**os.environ, **wanted}, timeout_s=BUILD_TIMEOUT_S)
    return None if built.returncode == 0 else f"anvil's image could not be built: {_last_line(built)}"


def up(running: Running) -> None:
    """Starts the containers; returns before they are ready. Raises LocalError."""
    done = _compose("up", "--detach", "--no-build", *SERVICES, environment=_environment(running))
    if done.returncode != 0:
        raise LocalError(
            "the containers could not be started", why=_last_line(done), do="docker compose logs tells more"
        )


def down(running: Running) -> None:
    """Stops and removes the containers; the volumes stay."""
    done = _compose("down", environment=_environment(running))
    if done.returncode != 0:
        raise LocalError("the containers could not be stopped", why=_last_line(done))


def clean() -> None:
    """Removes containers and volumes, where there is an engine."""
    if engine.why_no_engine() is None:
        _compose("down", "--volumes", environment={**os.environ, **images()})


def logs(service: str, *, lines: int) -> str:
    """The last lines of one container."""
    done = _compose("logs", "--no-color", "--tail", str(lines), service, environment={**os.environ, **images()})
    return done.stdout + done.stderr


def await_ready(parts: Sequence[Server], *, timeout_s: float) -> None:
    """Waits until every part answers from outside of its container. Raises LocalError with the container's log."""
    deadline = time.monotonic() + timeout_s
    for part in parts:
        while (reason := part.probe()) is not None:
            if time.monotonic() > deadline:
                name = part.daemon.name
                raise LocalError(
                    f"container {name} did not become ready in time: {reason}",
                    why=logs(name, lines=12),
                    do="CHAINBOOKS_NO_DOCKER=1 make up starts native processes instead",
                )
            time.sleep(POLL_S)


def _environment(running: Running) -> dict[str, str]:
    settings = running.settings
    on_demand = settings.block_time_s == "on-demand"
    return {
        **os.environ,
        **images(),
        "CHAINBOOKS_LOCAL_KAFKA_PORT": str(settings.kafka_port),
        "CHAINBOOKS_LOCAL_POSTGRES_PORT": str(settings.postgres_port),
        "CHAINBOOKS_LOCAL_ANVIL_PORT": str(settings.anvil_port),
        "CHAINBOOKS_LOCAL_KAFKA_HEAP_MB": str(settings.kafka_heap_mb),
        "CHAINBOOKS_LOCAL_POSTGRES_PASSWORD": running.password,
        "CHAINBOOKS_LOCAL_ANVIL_OPTIONS": " ".join(
            [
                *("--chain-id", str(CHAIN_ID), "--slots-in-an-epoch", str(settings.slots_in_an_epoch)),
                *(() if on_demand else ("--block-time", f"{settings.block_time_s:g}")),
            ]
        ),
    }


@cache
def _command() -> tuple[str, ...]:
    """``docker compose``, or the older ``docker-compose`` (Debian 12 has only that); empty when there is neither."""
    for command in (("docker", "compose"), ("docker-compose",)):
        try:
            done = subprocess.run(
                [*command, "version"], capture_output=True, timeout=engine.PROBE_TIMEOUT_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if done.returncode == 0:
            return command
    return ()


def _compose(
    *arguments: str, environment: dict[str, str], timeout_s: float = COMMAND_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    command = [*_command(), "--project-name", PROJECT, "--file", str(FILE), *arguments]
    try:
        return subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 124, "", f"no end after {timeout_s:.0f} s")


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    return ((done.stderr + done.stdout).strip().splitlines() or ["no reason given"])[-1][:300]
