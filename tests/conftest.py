"""Fixtures for every test: the services (``tests/services.py``), and where the run says which of them it used.

Only what a test asks for is started. Databases and topics are the test's own: make a database from
``postgres_admin_url``, begin every topic with ``kafka_prefix``.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.services import AnvilFactory, Services

hypothesis.settings.register_profile("chainbooks", deadline=None)  # no test gates on time, a busy machine least
hypothesis.settings.load_profile("chainbooks")
_services = pytest.StashKey[Services]()


def pytest_addoption(parser: pytest.Parser) -> None:
    chaos = parser.getgroup("chaos", "kill -9 under load (tests/e2e/chaos)")
    chaos.addoption("--chaos-seconds", type=float, default=60.0, help="how long the load lasts (default: 60)")
    chaos.addoption("--chaos-seed", type=int, default=0, help="repeats the order of blows (default: a new one)")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_services] = Services()


def pytest_report_header(config: pytest.Config) -> str:
    return f"services: {config.stash[_services].plan()}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of a parallel run tells the main process which services it used."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["services"] = dict(session.config.stash[_services].used)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    used = node.config.stash[_services].used
    for name, where in getattr(node, "workeroutput", {}).get("services", {}).items():
        used[name] = where if used.get(name, where) == where else f"{used[name]}; {where}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    used = config.stash[_services].used
    terminalreporter.section("services used")
    for name, where in used.items():
        terminalreporter.line(f"{name}: {where}")
    if not used:
        terminalreporter.line("none")


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest) -> Iterator[Services]:
    """The session's services. Most tests want one of the fixtures below."""
    services = request.config.stash[_services]
    yield services
    services.close()


@pytest.fixture(scope="session")
def kafka_bootstrap(services: Services) -> str:
    """Bootstrap servers of a real broker, auto-creation of topics off."""
    return services.kafka


@pytest.fixture(scope="session")
def postgres_admin_url(services: Services) -> str:
    """A superuser's DSN: tests make their own databases and drop them."""
    return services.postgres


@pytest.fixture(scope="session")
def anvil_path(services: Services) -> str:
    """anvil's native binary."""
    return str(services.anvil_binary)


@pytest.fixture
def anvil(anvil_path: str, tmp_path: Path) -> Iterator[AnvilFactory]:
    """Starts nodes: ``node = await anvil(slots_in_an_epoch=1)``. They end with the test."""
    factory = AnvilFactory(binary=Path(anvil_path), folder=tmp_path / "anvil")
    yield factory
    factory.stop_all()


@pytest.fixture
def kafka_prefix() -> str:
    """A prefix for topics and transactional ids that no other test has; ends with a dot."""
    return f"t{secrets.token_hex(6)}."
