"""Builds images out of the parts of this machine, so that the container path can be proved where no registry answers.

The file system of the images is what the parts need of this machine: a shell and a few programs with their libraries,
the Java runtime, Kafka's jars, the PostgreSQL of the wheel, anvil. They understand the variables of the usual images
that ``compose.yaml`` and testcontainers use, and are tagged with versions, because testcontainers reads the tag.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from deploy.local import engine
from deploy.local.native.anvil import find_binary
from deploy.local.native.kafka import LOG_CONFIG
from deploy.local.native.postgres import find_programs
from deploy.local.paths import layout

SOURCES: Final = Path(__file__).parent / "images"
TAGS: Final = {
    "kafka": "chainbooks-test-kafka:8.0.0",
    "postgres": "chainbooks-test-postgres:18",
    "anvil": "chainbooks-test-anvil:1.7.1",
}
PROGRAMS: Final = (
    *("sh", "bash", "env", "cat", "chmod", "chown", "cut", "hostname", "id", "ls", "mkdir", "rm", "sed", "sleep", "tr"),
    *("locale", "nproc", "sort"),
)
SCRIPTS: Final = {
    "configure.sh": "etc/confluent/docker/configure",
    "launch.sh": "etc/confluent/docker/launch",
    "kafka-storage.sh": "usr/local/bin/kafka-storage",
    "start-kafka.sh": "usr/local/bin/start-kafka",
    "postgres-entrypoint.sh": "usr/local/bin/postgres-entrypoint",
}
BUILD_TIMEOUT_S: Final = 300.0


def build() -> dict[str, str]:
    """The tags, by part; builds what the engine does not have yet."""
    if not all(engine.has_image(tag) for tag in TAGS.values()):
        with tempfile.TemporaryDirectory(prefix="chainbooks-images-") as folder:
            context = Path(folder)
            shutil.copy(SOURCES / "Dockerfile", context)
            _root_filesystem(context / "rootfs")
            for part, tag in TAGS.items():
                command = ["docker", "build", "--quiet", "--target", part, "--tag", tag, str(context)]
                done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False)
                assert done.returncode == 0, done.stdout + done.stderr
    return dict(TAGS)


def _root_filesystem(root: Path) -> None:
    for folder in ("etc", "tmp", "usr/bin", "usr/local/bin", "opt", "var/lib"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "bin").symlink_to("usr/bin")
    (root / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nparts:x:10001:10001::/tmp:/bin/sh\n", encoding="ascii")
    (root / "etc" / "group").write_text("root:x:0:\nparts:x:10001:\n", encoding="ascii")
    for name in PROGRAMS:
        program = shutil.which(name, path="/usr/bin:/bin")
        assert program is not None, f"{name} is not on this machine"
        shutil.copy(program, root / "usr" / "bin" / name)
    java = shutil.which("java")
    assert java is not None
    shutil.copytree(Path(java).resolve().parents[1], root / "opt" / "java", ignore_dangling_symlinks=True)
    shutil.copytree(layout().kafka_jars, root / "opt" / "kafka" / "libs")
    shutil.copy(LOG_CONFIG, root / "opt" / "kafka")
    wheel = find_programs().parents[1]
    (root / "opt" / "wheel").mkdir()
    shutil.copytree(wheel / "pginstall18", root / "opt" / "wheel" / wheel.name / "pginstall18")
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), root / "opt" / "wheel" / f"{wheel.name}.libs")
    shutil.copy(find_binary(layout().node_modules), root / "usr" / "local" / "bin" / "anvil")
    (root / "etc" / "confluent" / "docker").mkdir(parents=True)
    (root / "etc" / "confluent" / "docker" / "bash-config").touch()
    for source, place in SCRIPTS.items():
        shutil.copy(SOURCES / source, root / place)
        (root / place).chmod(0o755)
    for library in _libraries(root):
        target = root / library.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(library, target)


def _libraries(root: Path) -> set[Path]:
    """The shared libraries of this machine that the programs below ``root`` load, the loader itself included."""
    found: set[Path] = set()
    for program in _elf_files(root):
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        found |= {Path(name) for name in re.findall(r"(/\S+) \(0x", listed) if not name.startswith(str(root))}
    return found


def _elf_files(root: Path) -> Iterator[Path]:
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as content:
                if content.read(4) == b"\x7fELF":
                    yield path
