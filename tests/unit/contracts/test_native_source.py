"""A posting may be only for chains that see native money by events, or only for those that see it by traces."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.document import type_document
from contracts.registry import load_registry
from contracts.typed import TypedContract
from tests.unit.contracts.build import CHAIN_ID, TOKEN, VAULT, registry_folder


@pytest.mark.parametrize(
    ("wanted", "source", "lines"),
    [("events", "events", 2), ("traces", "events", 1), ("events", "none", 2), ("traces", "none", 2)],
)
def test_a_line_for_another_source_is_left_out(tmp_path: Path, wanted: str, source: str, lines: int) -> None:
    """Where native amounts are refused all lines stay, so that they are refused."""
    folder = registry_folder(tmp_path)
    path = folder / "vrf-v2-5-wrapper.yaml"
    path.write_text(path.read_text().replace("native_source: events", f"native_source: {wanted}"))
    (folder / "zz.yaml").write_text(
        f"kind: deployment\nchain: {CHAIN_ID}\nnative: {{symbol: ETH, source: {source}}}\n"
        f'contracts: {{vrf-v2-5-wrapper: {{addresses: ["{VAULT}"], constants: {{LINK: "{TOKEN}"}}}}}}\n'
    )
    document = load_registry([folder], chain_id=CHAIN_ID).contract("vrf-v2-5-wrapper").document
    typed = type_document(document)
    assert isinstance(typed, TypedContract)
    assert len(typed.events["NativeWithdrawn"].postings) == lines
