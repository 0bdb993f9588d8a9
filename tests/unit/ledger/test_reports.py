"""What rebuild and verify tell people: progress with and without a terminal, failures with what to do."""

from __future__ import annotations

import pytest

from ledger.core.verification import CHECKS, Result, compared
from ledger.rebuild import Progress
from ledger.reports import print_verify, rebuild_progress, verify_document

HALF = Progress(stage="folding", offsets_total=200, offsets_done=100, records=90, partitions=4, partitions_done=2)


def test_progress_is_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with rebuild_progress() as tell:
        tell(HALF)
        tell(HALF)  # at once again: not said twice
        tell(Progress(stage="comparing"))
    said = capsys.readouterr()
    assert said.out == ""
    first, second = said.err.splitlines()
    assert "folding after" in first
    assert "90 records" in first
    assert "50%, 2 of 4 partitions, about" in first
    assert second.startswith("comparing after")


def test_progress_is_a_bar_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    with rebuild_progress() as tell:
        tell(HALF)
        tell(Progress(stage="comparing"))
    said = capsys.readouterr()
    assert said.out == ""
    assert "comparing" in said.err


def test_a_failure_is_told_with_its_subject_and_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = dict.fromkeys(
        ("entries", "transfers", "contras", "accounts", "clearing", "assets", "streams", "batches", "quarantined"),
        1_234,
    ) | {"descriptions": 3, "incidents": 0, "final_number": None}
    results = [Result(check=check, compared=compared(check, sizes), failing=0, failures=()) for check in CHECKS]
    results[4] = Result(
        check=CHECKS[4], compared="all", failing=25, failures=("account a: has 1, the postings give 2",)
    )
    print_verify("local", results)
    out = capsys.readouterr().out
    for text in ("FAILED balances = postings", "account a: has 1", "and 24 more", "what to do: ", "14 of 15 checks"):
        assert text in out
    document = verify_document("local", results)
    assert document["passed"] is False
    assert [check["check"] for check in document["checks"] if check["advice"]] == ["balances = postings"]
