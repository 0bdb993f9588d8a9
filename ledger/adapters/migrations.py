"""Makes the database ready: roles, schemas, tables, views. Forward only, plain SQL files, applied by yoyo.

Three group roles: ``chainbooks_owner`` owns everything and cannot log in, ``chainbooks_writer`` is what ``run`` works
as, ``chainbooks_reader`` sees the ``finance`` views only. The users of the writer's and the reader's DSN are made when
they are missing and become members. Needs a superuser, or a role that may create roles. Doing it again is fine.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Final
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import psycopg
import yoyo
from psycopg import sql

from deploy.runtime.settings import redacted
from ledger.errors import ConfigurationRefused, DatabaseUnavailable

OWNER: Final = "chainbooks_owner"
WRITER: Final = "chainbooks_writer"
READER: Final = "chainbooks_reader"
SCHEMAS: Final = ("ledger", "finance")
VERSION_MIN: Final = 150000
CONNECT_TIMEOUT_S: Final = 5
REFUSED: Final = ("password authentication failed", "does not exist", "no pg_hba.conf entry")
LOCK_KEY: Final = 0x636861696E626F6F  # "chainboo"


def migrate(owner_dsn: str, *, writer_dsn: str, reader_dsn: str | None) -> list[str]:
    """Creates what is missing and returns the names of the migrations that were applied.

    Raises DatabaseUnavailable, ConfigurationRefused.
    """
    try:
        with psycopg.connect(owner_dsn, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            _check_version(connection)
            connection.execute("SELECT pg_advisory_lock(%s)", [LOCK_KEY])
            _ensure_roles(connection, writer_dsn=writer_dsn, reader_dsn=reader_dsn)
            _ensure_schemas(connection)
            return _apply(owner_dsn)
    except (psycopg.OperationalError, psycopg.errors.CannotConnectNow) as exc:
        if any(text in str(exc) for text in REFUSED):  # libpq gives no code before there is a connection
            raise ConfigurationRefused(
                f"[postgres] owner_dsn {redacted(owner_dsn)} is refused: {_first_line(exc)}"
            ) from exc
        raise DatabaseUnavailable(
            f"Postgres cannot be reached at {redacted(owner_dsn)} ([postgres] owner_dsn): {_first_line(exc)}"
        ) from exc
    except psycopg.errors.InsufficientPrivilege as exc:
        raise ConfigurationRefused(
            f"[postgres] owner_dsn: its role may not do this: {_first_line(exc)}; use a superuser, or a role that may "
            f"create roles and is a member of {OWNER}"
        ) from exc
    except psycopg.Error as exc:
        raise ConfigurationRefused(f"migration failed, nothing of it was kept: {_first_line(exc)}") from exc


def available() -> list[str]:
    """Names of all migrations that this version has, in order."""
    folder = files("ledger") / "sql" / "migrations"
    return sorted(item.name.removesuffix(".sql") for item in folder.iterdir() if item.name.endswith(".sql"))


def _check_version(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    version = connection.info.server_version
    if version < VERSION_MIN:
        raise ConfigurationRefused(f"PostgreSQL {version // 10000} is too old; 15 or newer is needed")


def _ensure_roles(
    connection: psycopg.Connection[tuple[object, ...]], *, writer_dsn: str, reader_dsn: str | None
) -> None:
    _ensure_role(connection, OWNER, login=False)
    for group, dsn in ((WRITER, writer_dsn), (READER, reader_dsn)):
        user, password = _credentials(dsn) if dsn else (None, None)
        _ensure_role(connection, group, login=user == group, password=password if user == group else None)
        if user is not None and user != group:
            if not _may_be_made_a_member(connection, user):
                continue
            _ensure_role(connection, user, login=True, password=password)
            connection.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(group), sql.Identifier(user)))


def _may_be_made_a_member(connection: psycopg.Connection[tuple[object, ...]], user: str) -> bool:
    """A superuser may do everything already, and stays what it is."""
    row = connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = %s", [user]).fetchone()
    return row is None or not row[0]


def _ensure_role(
    connection: psycopg.Connection[tuple[object, ...]], name: str, *, login: bool, password: str | None = None
) -> None:
    row = connection.execute("SELECT rolcanlogin FROM pg_roles WHERE rolname = %s", [name]).fetchone()
    identifier = sql.Identifier(name)
    if row is None:
        options: list[sql.Composable] = [sql.SQL("LOGIN" if login else "NOLOGIN")]
        if password:
            options.append(sql.SQL("PASSWORD {}").format(sql.Literal(password)))
        try:
            connection.execute(sql.SQL("CREATE ROLE {} {}").format(identifier, sql.SQL(" ").join(options)))
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            row = (False,)  # roles belong to the whole cluster: another database's migration was faster
    if row is not None and login and not row[0]:
        connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(identifier))


def _ensure_schemas(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    owner = sql.Identifier(OWNER)
    row = connection.execute(
        "SELECT current_database(), current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
    ).fetchone()
    assert row is not None
    database, user, is_superuser = str(row[0]), str(row[1]), bool(row[2])
    if not is_superuser and user != OWNER:
        connection.execute(sql.SQL("GRANT {} TO {}").format(owner, sql.Identifier(user)))
    for schema in SCHEMAS:
        connection.execute(
            sql.SQL("CREATE SCHEMA IF NOT EXISTS {} AUTHORIZATION {}").format(sql.Identifier(schema), owner)
        )
    for role in (WRITER, READER):
        connection.execute(
            sql.SQL("GRANT CONNECT, TEMPORARY ON DATABASE {} TO {}").format(
                sql.Identifier(database), sql.Identifier(role)
            )
        )


def _apply(owner_dsn: str) -> list[str]:
    """Applies what is missing, as the owner's role, in one db_tx each."""
    with as_file(files("ledger") / "sql" / "migrations") as folder:
        migrations = yoyo.read_migrations(str(folder))
        backend = yoyo.get_backend(_as_owner(owner_dsn))
        try:
            with backend.connection.cursor() as cursor:
                cursor.execute("SET client_min_messages = warning")
            backend.break_lock()  # we hold an advisory lock: what locks here is left over from a killed migration
            pending = backend.to_apply(migrations)
            backend.ensure_internal_schema_updated()
            names = []
            with backend.lock():
                for migration in pending:
                    # yoyo's apply_one runs the steps on another connection than the mark: a crash between the two
                    # leaves a migration that is done and not known to be
                    with backend.transaction():
                        migration.process_steps(backend, "apply")
                        backend.mark_one(migration)
                    names.append(migration.id)
        finally:
            backend.connection.close()
    return names


def _as_owner(dsn: str) -> str:
    """The DSN for yoyo: psycopg 3, schema ledger for its bookkeeping, the owner's role from the first statement on."""
    parts = urlsplit(dsn)
    query = dict(parse_qsl(parts.query)) | {"schema": "ledger", "options": f"-c role={OWNER}"}
    return urlunsplit(("postgresql+psycopg", parts.netloc, parts.path, urlencode(query, safe=""), ""))


def _credentials(dsn: str) -> tuple[str | None, str | None]:
    parts = urlsplit(dsn)
    user = unquote(parts.username) if parts.username else dict(parse_qsl(parts.query)).get("user")
    return user, unquote(parts.password) if parts.password else None


def _first_line(exc: BaseException) -> str:
    return str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
