"""Settings of both services: one TOML file, environment variables on top, every problem named with its place.

``load`` is the only way in. The file is what ``--config`` names, else what CHAINBOOKS_CONFIG names, else
``./chainbooks.toml`` if there is one; an environment variable ``CHAINBOOKS_<SECTION>__<FIELD>`` wins over the file.
Both services read the same file, so a section that only the other one knows is skipped; a section that neither knows,
and a field that a section does not have, are errors. This module never connects to anything, and never puts a
secret's value into a message.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

CONFIG_VARIABLE: Final = "CHAINBOOKS_CONFIG"
ENV_PREFIX: Final = "CHAINBOOKS_"
ENV_DELIMITER: Final = "__"
DEFAULT_CONFIG: Final = Path("chainbooks.toml")
SECTIONS: Final = ("chain", "kafka", "postgres", "telemetry", "registry", "indexer", "ledger", "demo")
"""Every section that a chainbooks.toml may have; a service uses the ones that it declares."""


class SettingsError(ValueError):
    """Settings that cannot be used. ``problems`` has one line each: file or variable, field, reason."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems: tuple[str, ...] = tuple(problems)
        super().__init__("\n".join(self.problems))


def _split(value: object) -> object:
    """A comma-separated string where a list is wanted: what people write into environment variables."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


def _url(*schemes: str) -> AfterValidator:
    """A secret that must be a URL with one of the schemes and a host; its value stays out of the message."""

    def check(value: SecretStr) -> SecretStr:
        try:
            parts = urlsplit(value.get_secret_value())
            host = parts.hostname or "host=" in parts.query
        except ValueError as exc:
            raise ValueError("is not a URL") from exc
        if parts.scheme not in schemes:
            raise ValueError(f"must start with {' or '.join(scheme + '://' for scheme in schemes)}")
        if not host:
            raise ValueError("names no host")
        return value

    return AfterValidator(check)


HttpUrl = Annotated[SecretStr, _url("http", "https")]
WebSocketUrl = Annotated[SecretStr, _url("ws", "wss")]
PostgresUrl = Annotated[SecretStr, _url("postgresql", "postgres")]
Port = Annotated[int, Field(ge=0, le=65535)]


class Section(BaseModel):
    """Base of every section: immutable, no unknown fields, no secret in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class ChainSettings(Section):
    """[chain]: which chain, through which nodes."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,30}$")]  # slug in topic names, for example "local"
    id: Annotated[int, Field(ge=1, lt=2**53)]  # numeric chain id that every node must report
    rpc_http: Annotated[tuple[HttpUrl, ...], BeforeValidator(_split), Field(min_length=1)]  # in order of preference
    rpc_ws: WebSocketUrl | None = None  # newHeads wake-ups; without it the head is polled
    finality: Literal["tags"] | Annotated[int, Field(ge=1)] = "tags"  # the node's tags, or a depth in blocks
    rpc_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0  # deadline of one request


class KafkaSettings(Section):
    """[kafka]: the brokers and how the topics are laid out."""

    bootstrap_servers: Annotated[str, Field(pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$")]  # host:port, comma-separated
    topic_prefix: Annotated[str, Field(pattern=r"^([A-Za-z0-9_.-]+\.)?$")] = ""  # empty or ends with a dot
    partitions: Annotated[int, Field(ge=1, le=1024)] = 4  # P, pinned for the life of a topic version
    replication_factor: Annotated[int, Field(ge=1, le=32)] = 1


class PostgresSettings(Section):
    """[postgres]: one DSN per role. Services run as the writer; only ``migrate`` needs the owner's."""

    dsn: PostgresUrl  # writer
    owner_dsn: PostgresUrl | None = None
    reader_dsn: PostgresUrl | None = None


class TelemetrySettings(Section):
    """[telemetry]: where the health server listens, what is logged, where spans go."""

    host: str = "127.0.0.1"
    port: Port = 0  # 0: any free port, named in the log; two services on one machine need two ports
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"
    trace_file: Path | None = None  # finished spans as JSON lines; without it spans are not recorded


class RegistrySettings(Section):
    """[registry]: the descriptions of the payment contracts, YAML files or folders of them."""

    paths: Annotated[tuple[Path, ...], BeforeValidator(_split), Field(min_length=1)] = (Path("contracts/registry"),)


class _Environment(EnvSettingsSource):
    """Environment variables; a list may be written as JSON or, as people do, as ``a,b``."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        """The value decoded from JSON, or as it is: then the field's validator splits or refuses it."""
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


class ServiceSettings(BaseSettings):
    """Base of IndexerSettings and LedgerSettings: declare sections as fields; read them with ``load``."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over the file, whose content comes in as arguments."""
        return _Environment(settings_cls), init_settings


S = TypeVar("S", bound=ServiceSettings)


def load(settings_class: type[S], config_path: Path | None = None) -> S:
    """The effective settings.

    Raises SettingsError with every problem; callers print it and exit with ``exit_codes.USAGE``.
    """
    path = _config_file(config_path)
    values = {} if path is None else _read(path)
    strangers = sorted(name for name in os.environ if _names_no_section(name))
    if strangers:
        raise SettingsError(f"{name}: names no section; there are: {', '.join(SECTIONS)}" for name in strangers)
    try:
        return settings_class(**values)
    except ValidationError as exc:
        problems = exc.errors(include_url=False, include_input=False, include_context=False)
        raise SettingsError(dict.fromkeys(_explain(problem, path, settings_class) for problem in problems)) from exc


def effective(settings: BaseModel) -> dict[str, Any]:
    """The settings as JSON-ready values.

    A secret URL keeps scheme, host, port and (Postgres) user and database only.
    """
    return {name: _shown(getattr(settings, name)) for name in type(settings).model_fields}


def _names_no_section(variable: str) -> bool:
    """CHAINBOOKS_KAKFA__PARTITIONS: it looks like a setting and would be ignored."""
    section, delimiter, _ = variable.upper().removeprefix(ENV_PREFIX).partition(ENV_DELIMITER)
    return variable.upper().startswith(ENV_PREFIX) and bool(delimiter) and section.lower() not in SECTIONS


def _config_file(config_path: Path | None) -> Path | None:
    named = config_path
    origin = "--config"
    if named is None and (variable := os.environ.get(CONFIG_VARIABLE)):
        named, origin = Path(variable), CONFIG_VARIABLE
    if named is None:
        return DEFAULT_CONFIG if DEFAULT_CONFIG.is_file() else None
    if not named.is_file():
        raise SettingsError([f"{named}: no such file ({origin}); `make up` writes .local/chainbooks.toml"])
    return named


def _read(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise SettingsError([f"{path}: cannot be read: {exc.strerror}"]) from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError([f"{path}: not valid TOML: {exc}"]) from exc
    unknown = sorted(set(document) - set(SECTIONS))
    if unknown:
        raise SettingsError([f"{path}: [{name}]: no such section; {_nearest(name, SECTIONS)}" for name in unknown])
    return document


def _explain(problem: Mapping[str, Any], path: Path | None, settings_class: type[ServiceSettings]) -> str:
    """``file or variable: section.field: reason`` of one pydantic error."""
    section, *rest = [str(part) for part in problem["loc"]]
    model = settings_class.model_fields[section].annotation if section in settings_class.model_fields else None
    fields = model.model_fields if isinstance(model, type) and issubclass(model, BaseModel) else {}
    # below the field, pydantic also names the members of unions: only positions in a list say something to a reader
    shown = ".".join([section, *rest[:1], *(part for part in rest[1:] if part.isdecimal())])
    variable = ENV_PREFIX + ENV_DELIMITER.join([section, *rest[:1]]).upper()
    reason = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        reason = f"no such field; {_nearest(rest[0], fields)}"
    elif problem["type"] == "missing":
        reason = f"is missing; set it in the file, or the variable {variable if rest else variable + '__…'}"
    origin = next((name for name in os.environ if name.upper() == variable), None)
    return f"{origin or path or 'settings'}: {shown}: {reason}"


def _nearest(name: str, candidates: Iterable[str]) -> str:
    known = list(candidates)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(known)}"


def _shown(value: object) -> Any:
    if isinstance(value, SecretStr):
        return redacted(value.get_secret_value())
    if isinstance(value, BaseModel):
        return effective(value)
    if isinstance(value, tuple | list):
        return [_shown(item) for item in value]
    if isinstance(value, dict):
        return {key: _shown(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def redacted(url: str) -> str:
    """Scheme, host and port of a URL, of Postgres also user and database; the rest may hold secrets."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "an unreadable URL"
    if parts.scheme in ("postgresql", "postgres"):
        user = f"{parts.username}@" if parts.username else ""
        return (
            f"{parts.scheme}://{user}{_place(host or dict(parse_qsl(parts.query)).get('host', ''), port)}{parts.path}"
        )
    if not parts.scheme or not host:
        return "an unreadable URL"
    return f"{parts.scheme}://{_place(host, port)}" + ("/…" if parts.path not in ("", "/") or parts.query else "")


def _place(host: str, port: int | None) -> str:
    return host if port is None else f"{host}:{port}"
