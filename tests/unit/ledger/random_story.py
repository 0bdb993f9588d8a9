"""Stories from a seed: payments of every kind, silent flows, reorgs, flip-flops, late events, finality, incidents."""

from __future__ import annotations

import random
from collections.abc import Sequence

import msgspec

from tests.unit.ledger.story import (
    GATEWAY,
    OTHER_TOKEN,
    PAYER,
    TOKEN,
    VAULT,
    Block,
    Log,
    Story,
    captured,
    deposit,
    internal,
    moved,
    vault_deposited,
)


def random_txs(rng: random.Random) -> list[list[Log]]:
    """Zero to five txs."""
    return [_random_tx(rng) for _ in range(rng.randrange(6))]


def _random_tx(rng: random.Random) -> list[Log]:
    token = rng.choice([TOKEN, OTHER_TOKEN])
    amount = rng.choice([0, 1, rng.randrange(1, 10**6), 2**200])
    to = rng.randrange(1, 5)
    vault_owner = "0x" + "55" * 19 + f"{to:02x}"
    claimed = rng.randrange(amount + 1)
    choices: Sequence[list[Log]] = (
        deposit(to, amount, token=token),
        [internal(to, rng.randrange(1, 5), amount, asset=token)],
        [captured(to, rng.randrange(1, 5), amount, amount // 50, asset=token)],
        [moved(PAYER, GATEWAY, amount, token=token)],  # inflow without a claim
        [moved(GATEWAY, PAYER, amount, token=token)],  # outflow without a claim
        [*deposit(to, claimed, token=token), moved(PAYER, GATEWAY, amount, token=token)],
        [moved(PAYER, VAULT, amount, token=token), vault_deposited(vault_owner, amount, asset=token)],
        [*deposit(to, amount, token=token), moved(PAYER, VAULT, amount, token=token)],  # two books in one tx
    )
    return rng.choice(choices)


def random_story(seed: int, *, blocks: int = 25, story: Story | None = None, incidents: bool = False) -> Story:
    """A story of about so many blocks, of any depth of reorg above finality; it ends with a watermark.

    ``story``: one that was not told yet, to say how books are spread over partitions. With ``incidents`` the chain also
    changes below finality, and back again.
    """
    rng = random.Random(seed)
    story = story or Story()
    graveyard: list[list[Block]] = []
    revoked: list[list[Block]] = []
    for turn in range(blocks):
        story.block(*random_txs(rng), branch=f"{turn}", mark=rng.random() < 0.7)
        depth_max = len(story.chain) - (story.finalized - story.first_number + 1 if story.finalized else 0)
        roll = rng.random()
        if roll < 0.2 and depth_max > 1:
            graveyard.append(story.retract(rng.randrange(1, min(depth_max, 6))))
        elif roll < 0.3:
            _return_of_a_branch(story, graveyard, rng)
        elif roll < 0.4 and depth_max > 3 and turn > 5:
            story.mark(finalized=story.chain[-3].number)
            graveyard.clear()
        elif roll < 0.5:
            _late(story, rng)
        elif incidents and roll < 0.65:
            graveyard.clear()
            _incident(story, revoked, rng)
    if not story.chain:
        story.block(branch="end")
    story.mark()
    return story


def _return_of_a_branch(story: Story, graveyard: list[list[Block]], rng: random.Random) -> None:
    """Flip-flop: what was replaced comes back, with the next odd revision."""
    if not graveyard:
        return
    orphans = graveyard.pop(rng.randrange(len(graveyard)))
    above = [block for block in story.chain if block.number >= orphans[0].number]
    if orphans[0].number <= story.finalized or orphans[0].number > story.chain[-1].number + 1:
        return
    if above:
        graveyard.append(story.retract(len(above)))
    for block in orphans:
        story.apply(block)
    story.mark()


def _incident(story: Story, revoked: list[list[Block]], rng: random.Random) -> None:
    """What was final is revoked, down to some block; other blocks, or such as stood there before, take its place."""
    final = [block for block in story.chain if block.number <= story.finalized]
    if not final:
        return
    story.retract(len(story.chain) - len(final))
    incident = f"31337-{story.finalized}-{len(story.records)}"
    again = revoked[-1] if revoked and rng.random() < 0.6 else []
    if again and not final[0].number <= again[0].number <= final[-1].number:
        again = []
    depth = story.finalized - again[0].number + 1 if again else rng.randrange(1, min(len(final), 4) + 1)
    revoked.append(story.revoke(depth, incident))
    for block in again:
        story.apply(block, incident=incident)
    while story.chain[-1:] == [] or story.chain[-1].number < story.finalized:
        story.block(*random_txs(rng), branch=incident, incident=incident, mark=False)
    story.mark()


def _late(story: Story, rng: random.Random) -> None:
    """An event that was missed: published long after its block."""
    block = rng.choice(story.chain)
    if not block.events or block.revision != 1:
        return
    sample = rng.choice(block.events)
    number = 1_000 + len(story.records)
    late = msgspec.structs.replace(
        sample, event_id="0x" + f"{number:064x}", log_index=number, late=True, closes_tx=rng.random() < 0.5
    )
    block.events.append(late)
    story.put(late)
