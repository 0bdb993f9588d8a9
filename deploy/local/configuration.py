"""The stack's own settings (CHAINBOOKS_LOCAL_…), and the settings files that it writes for the services."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from deploy.local import ports
from deploy.local.failure import LocalError
from deploy.local.native.postgres import SUPERUSER
from deploy.local.paths import REPOSITORY, Layout

PREFIX: Final = "CHAINBOOKS_LOCAL_"
DATABASE: Final = "chainbooks"
CHAIN: Final = "local"
CHAIN_ID: Final = 31337

Port = Annotated[int, Field(ge=1024, le=65535)]


class LocalSettings(BaseSettings):
    """Ports and sizes, from the environment.

    The ports are nobody's defaults, and below the range of outgoing connections.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True)

    kafka_port: Port = 21092
    kafka_controller_port: Port = 21093
    postgres_port: Port = 21432
    anvil_port: Port = 21545
    kafka_heap_mb: Annotated[int, Field(ge=128, le=65536)] = 512
    block_time_s: Annotated[float, Field(gt=0, le=3600)] | Literal["on-demand"] = 1.0  # on-demand: a block per tx
    slots_in_an_epoch: Annotated[int, Field(ge=1, le=1024)] = 4  # safe is this far behind the head, finalized twice
    start_timeout_s: Annotated[float, Field(gt=0, le=600)] = 60.0  # how long all parts together may take


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """The stack that was started: how, with which settings, and the superuser's password."""

    mode: Literal["native", "docker"]
    settings: LocalSettings
    password: str

    @property
    def kafka(self) -> str:
        return f"{ports.LOOPBACK}:{self.settings.kafka_port}"

    @property
    def rpc(self) -> str:
        return f"{ports.LOOPBACK}:{self.settings.anvil_port}"

    def dsn(self, user: str, *, with_password: bool = True) -> str:
        """A DSN for a role in the ledger's database; the superuser's has the password."""
        secret = f":{self.password}" if user == SUPERUSER and with_password else ""
        return f"postgresql://{user}{secret}@{ports.LOOPBACK}:{self.settings.postgres_port}/{DATABASE}"


def local_settings() -> LocalSettings:
    """The settings of the environment. Raises LocalError naming the variable."""
    try:
        return LocalSettings()
    except ValidationError as exc:
        lines = [f"{PREFIX}{str(problem['loc'][0]).upper()}: {problem['msg']}" for problem in exc.errors()]
        raise LocalError("the local stack's settings cannot be used", why="\n".join(dict.fromkeys(lines))) from exc


def superuser_password(layout: Layout) -> str:
    """Made once, and kept beside the data that it opens."""
    path = layout.data / "postgres.password"
    if not path.exists():
        layout.data.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(16), encoding="ascii")
    return path.read_text(encoding="ascii").strip()


def remember(layout: Layout, running: Running) -> None:
    """So that down, status and the tools look at the stack that was started, whatever the environment says now."""
    layout.root.mkdir(parents=True, exist_ok=True)
    document = {"mode": running.mode, "settings": running.settings.model_dump()}
    layout.state.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def remembered(layout: Layout) -> Running | None:
    """What ``remember`` wrote; None when no stack was started, or after ``down``."""
    try:
        document = json.loads(layout.state.read_text(encoding="utf-8"))
        settings = LocalSettings.model_validate(document["settings"])
        return Running(mode=document["mode"], settings=settings, password=superuser_password(layout))
    except (OSError, ValueError, KeyError):
        return None


def differing(before: LocalSettings, now: LocalSettings) -> list[str]:
    """One line for each setting that is not the same: its variable, what it was, what it is."""
    old, new = before.model_dump(), now.model_dump()
    return [f"{PREFIX}{name.upper()} was {old[name]}, is {new[name]}" for name in old if old[name] != new[name]]


def write(layout: Layout, running: Running) -> None:
    """``.local/chainbooks.toml`` for ``--config``, and the same as variables in ``.local/env``; mode 0600."""
    sections: dict[str, dict[str, object]] = {
        "chain": {
            "name": CHAIN,
            "id": CHAIN_ID,
            "rpc_http": [f"http://{running.rpc}"],
            "rpc_ws": f"ws://{running.rpc}",
            "finality": "tags",
        },
        "kafka": {"bootstrap_servers": running.kafka, "partitions": 4, "replication_factor": 1},
        "postgres": {
            "dsn": running.dsn("chainbooks_writer"),
            "owner_dsn": running.dsn("postgres"),
            "reader_dsn": running.dsn("chainbooks_reader"),
        },
        "registry": {"paths": [str(REPOSITORY / "contracts" / "registry")]},
    }
    toml = ["# Written by `make up`; it is written again each time. Secrets of this machine's stack only."]
    env = ["# Written by `make up`: the same as chainbooks.toml, for `set -a; . .local/env`."]
    for section, fields in sections.items():
        toml.append(f"\n[{section}]")
        for name, value in fields.items():
            toml.append(f"{name} = {json.dumps(value)}")  # strings, numbers and lists read the same in TOML
            text = value if isinstance(value, str) else json.dumps(value)
            env.append(f"CHAINBOOKS_{section.upper()}__{name.upper()}='{text}'")
    for path, lines in ((layout.config, toml), (layout.env, env)):
        path.touch(mode=0o600)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
