"""Stories of subscriptions from a seed: requests and fulfilments that join them, cancellations that take what is left,
under reorgs, flip-flops and late events.
"""

from __future__ import annotations

import random

from tests.unit.ledger.story import Block, Log, Story, requests


class Subscriptions:
    """What happens in the blocks; request ids are few, so that events find earlier and replaced ones."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def tx(self) -> list[Log]:
        pick = self.random
        subscription, request = pick.randrange(1, 4), str(pick.randrange(1, 9))
        funded = requests("Funded", subId=str(subscription), amount=str(pick.randrange(1, 1_000)))
        requested = requests("Requested", requestId=request, subId=str(subscription), hold=str(pick.randrange(50)))
        fulfilled = requests("Fulfilled", requestId=request, payment=str(pick.randrange(60)))
        canceled = requests("Canceled", subId=str(subscription))
        choices = [
            [funded],
            [requested],
            [fulfilled],
            [canceled],
            [funded, requested, fulfilled],
            [requested, canceled],
        ]
        return pick.choice(choices)


def subscription_story(seed: int, *, blocks: int = 20, partition_of: dict[str, int] | None = None) -> Story:
    """About so many blocks; branches are replaced and come back."""
    told = Subscriptions(seed)
    pick = told.random
    story = Story(partition_of=partition_of or {})
    gone: list[list[Block]] = []
    for turn in range(blocks):
        story.block(*(told.tx() for _ in range(pick.randrange(4))), branch=str(turn), mark=pick.random() < 0.7)
        roll = pick.random()
        if roll < 0.25 and len(story.chain) > 1:
            gone.append(story.retract(pick.randrange(1, min(len(story.chain), 6))))
        elif roll < 0.4 and gone:
            back = gone.pop(pick.randrange(len(gone)))
            above = [block for block in story.chain if block.number >= back[0].number]
            if back[0].number > (story.chain[-1].number if story.chain else 0) + 1:
                continue
            if above:
                gone.append(story.retract(len(above)))
            for block in back:
                story.apply(block)
    if not story.chain:
        story.block(branch="end")
    story.mark()
    return story
