"""The second half of ``make setup``: Kafka's jars, anvil, Solidity compilers and contracts, below ``.local/``.

Each step has a stamp with the checksum of what it was made from: a step whose stamp holds is skipped, a step that was
cut short has none and starts again. Every download is tried a few times. The first half, ``.venv``, is
``bootstrap.sh``.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deploy.local import npm_package, toolchain
from deploy.local.failure import LocalError
from deploy.local.native.anvil import find_binary
from deploy.local.paths import SOURCES, Layout

ATTEMPTS: Final = 4
ATTEMPT_TIMEOUT_S: Final = 600.0
CHAINLINK_PIN: Final = SOURCES / "node" / "chainlink.json"
DEPENDENCY_PLUGIN: Final = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that is fetched once: made from ``sources`` by ``run``, there when ``present`` says so."""

    name: str
    sources: tuple[Path, ...]
    present: Callable[[], bool]
    run: Callable[[], None]

    def digest(self) -> str:
        combined = hashlib.sha256()
        for source in self.sources:
            combined.update(source.read_bytes())
        return combined.hexdigest()


def steps(layout: Layout, say: Say) -> list[Step]:
    """What ``make setup`` fetches, in order."""
    pom = SOURCES / "kafka" / "pom.xml"
    node = tuple(SOURCES / "node" / name for name in ("package.json", "package-lock.json", ".npmrc"))
    return [
        Step(
            name="Apache Kafka (Maven Central)",
            sources=(pom,),
            present=lambda: any(layout.kafka_jars.glob("kafka_2*.jar")),
            run=lambda: _fetch_kafka(pom, layout.kafka_jars, say),
        ),
        Step(
            name="anvil, solc and OpenZeppelin (npm)",
            sources=node,
            present=lambda: (layout.node_modules / "solc" / "package.json").exists(),
            run=lambda: _fetch_node(node, layout.node_modules, say),
        ),
        Step(
            name="Chainlink's contracts (npm)",
            sources=(CHAINLINK_PIN,),
            present=lambda: layout.chainlink_sources.is_dir(),
            run=lambda: npm_package.fetch(
                npm_package.Pin.read(CHAINLINK_PIN),
                layout.chainlink_sources,
                lambda command, folder: _attempt(command, folder, say),
            ),
        ),
    ]


def run(layout: Layout, say: Say) -> None:
    """Does what is missing. Raises LocalError."""
    layout.stamps.mkdir(parents=True, exist_ok=True)
    outstanding = [step for step in steps(layout, say) if not is_done(step, layout)]
    if not outstanding:
        return
    toolchain.ensure(say)
    for step in outstanding:
        started = time.monotonic()
        say(f"fetching {step.name}")
        step.run()
        _stamp(step, layout).write_text(step.digest(), encoding="ascii")
        say(f"  done in {time.monotonic() - started:.1f} s")


def is_done(step: Step, layout: Layout) -> bool:
    """Whether the step was finished with the sources as they are now, and its result is still there."""
    stamp = _stamp(step, layout)
    return step.present() and stamp.exists() and stamp.read_text(encoding="ascii") == step.digest()


def _stamp(step: Step, layout: Layout) -> Path:
    return layout.stamps / step.name.split()[0].strip(",").lower()


def _fetch_kafka(pom: Path, jars: Path, say: Say) -> None:
    partial = jars.with_name("libs.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    work = jars.parent / "pom.xml"  # Maven writes beside its pom: not into the sources
    shutil.copyfile(pom, work)
    _attempt(["mvn", "-q", "-B", "-f", work, DEPENDENCY_PLUGIN, f"-DoutputDirectory={partial}"], jars.parent, say)
    shutil.rmtree(jars, ignore_errors=True)
    partial.rename(jars)


def _fetch_node(sources: Iterable[Path], modules: Path, say: Say) -> None:
    folder = modules.parent
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copyfile(source, folder / source.name)
    _attempt(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder, say)
    find_binary(modules)


def _attempt(command: list[str | Path], cwd: Path, say: Say) -> None:
    """Runs a command that downloads, a few times, pausing longer each time. Raises LocalError with its last lines."""
    shown = " ".join(map(str, command[:3]))
    for attempt in range(1, ATTEMPTS + 1):
        try:
            done = subprocess.run(
                [str(part) for part in command],
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=ATTEMPT_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            reason = f"no end after {ATTEMPT_TIMEOUT_S:.0f} s"
        else:
            if done.returncode == 0:
                return
            reason = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        if attempt < ATTEMPTS:
            say(f"  {shown} failed; trying again in {attempt * 3} s ({attempt} of {ATTEMPTS - 1})")
            time.sleep(attempt * 3)
    raise LocalError(
        f"{shown} failed {ATTEMPTS} times", why=reason, do="check the network and its proxy, then make setup again"
    )
