"""A batch in the database: what it posts, and that nothing about it depends on how it was cut."""

from __future__ import annotations

from tests.integration.ledger.database import Books
from tests.unit.ledger.story import GATEWAY, Story, deposit, internal


def simple_story() -> Story:
    story = Story()
    story.block(deposit(1, 100, seq=1), deposit(2, 50, seq=2))
    story.block([internal(1, 2, 30, seq=3)])
    return story


async def test_a_deposit_moves_custody_and_claim_and_leaves_clearing_at_zero(books: Books) -> None:
    story = simple_story()
    worker = await books.fold([story.records])
    assert worker.ended is not None
    assert worker.ended.how == "closed", worker.ended
    found = {
        code.split(":")[0] + ":" + code.split(":")[3][-2:]: net for (code, _), net in (await books.balances()).items()
    }
    assert found == {f"assets:{GATEWAY[-2:]}": 150, "liabilities:01": -70, "liabilities:02": -80}
