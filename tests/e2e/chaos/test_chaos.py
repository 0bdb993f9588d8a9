"""``kill -9`` of everything, in random order, under load and reorgs: nothing is lost, doubled or wrong."""

from __future__ import annotations

import json
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest

from tests.e2e.chaos.ordeal import EVENTS_PER_S_MIN, Options, Ordeal
from tests.e2e.chaos.plan import PARTS
from tests.services import Services


@pytest.fixture
def folder() -> Path:
    """Removed by the test when all is well; kept, without the data, when it is not."""
    folder = Path(tempfile.mkdtemp(prefix="chainbooks-chaos-"))
    folder.chmod(0o711)  # PostgreSQL may have to run as another user, who must get through
    return folder


async def test_nothing_is_lost_or_doubled_whoever_is_killed(
    services: Services, pytestconfig: pytest.Config, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = pytestconfig.getoption("--chaos-seconds")
    seed = pytestconfig.getoption("--chaos-seed") or secrets.randbelow(1_000_000) + 1
    ordeal = Ordeal(Options(seed=seed, seconds=seconds, folder=folder, anvil=services.anvil_binary))
    repeat = f"repeat with: make chaos SECONDS={seconds:g} SEED={seed}\nlogs: {folder / 'logs'}"
    with capsys.disabled():
        print(f"\nchaos: seed {seed}, {seconds:g} s")
    try:
        report = await ordeal.perform()
        lines = report.lines()
        with capsys.disabled():
            print("\n".join(f"  {line}" for line in lines))
        (folder / "summary.json").write_text(json.dumps(report.summary(), indent=1) + "\n", encoding="utf-8")
        assert report.verdict.differences == ()
        assert report.traces == []
        assert set(report.kills) == set(PARTS)
        assert report.events_per_s >= EVENTS_PER_S_MIN, "the load was too small for the test to be worth something"
        assert report.reorgs_while_down
        assert len(report.reorgs) >= 2, "reorgs of one depth only"
        assert report.verdict.retracted > 0
        assert report.stopped_with == {"indexer": 0, "ledger": 0}
        assert report.verdict.final > 0
    except Exception as exc:
        exc.add_note(repeat)
        raise
    finally:
        ordeal.forget()
    shutil.rmtree(folder, ignore_errors=True)
