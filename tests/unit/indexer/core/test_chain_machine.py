"""The chain view under any sequence of observations, against a trivial reference: a block tree, and a reader who sees
everything that is published.

The machine is the shell: it answers the view's questions from the tree (or not, or wrongly), commits what plan and
compose make of its actions, stops between two kafka_txs, and starts again from what was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from contracts.messages import BlockRef
from indexer.core.blocks import Header
from indexer.core.chain import (
    Action,
    ChainView,
    FetchHeader,
    Finalize,
    Finalized,
    HeaderFetched,
    HeadSeen,
    Switch,
    ViolationSuspected,
    doubted,
    rebased,
    step,
)
from indexer.core.compose import compose
from indexer.core.plan import Tips, merged, plan
from indexer.core.state import BlockState, StateWrite, canonical_window, load
from tests.unit.indexer.core.branches import GENESIS, block_state, body, branch, event, header, parts_of
from tests.unit.indexer.core.test_compose import CURSOR, OWNER, header_value


def events_in(block: Header) -> int:
    """0, 1 or 2: empty blocks are blocks too."""
    return int(block.hash[-1], 16) % 3


class Reader:
    """What a consumer who sees everything knows: revisions, what stands, what is final. It checks as it reads."""

    def __init__(self) -> None:
        self.revisions: dict[str, int] = {}
        self.standing: dict[str, int] = {}  # event → block number
        self.final: list[str] = []
        self.final_heights: list[int] = []
        self.numbers: dict[tuple[str, int], int] = {}

    def read(self, tx_records: Sequence[object]) -> None:
        retracting: dict[int, list[tuple[int, int]]] = {}
        applied_in: set[int] = set()
        for record in tx_records:
            stream = (record.topic, record.partition)  # type: ignore[attr-defined]
            seq = int(header_value(record, "stream_seq"))  # type: ignore[arg-type]
            assert seq == self.numbers.get(stream, 0) + 1
            self.numbers[stream] = seq
            message = body(record.value)  # type: ignore[attr-defined]
            if message["op"] == "watermark":
                continue
            identity, height = str(message["event_id"]), int(str(message["block_number"]))
            if message["op"] == "finalized":
                assert identity in self.standing
                assert message["revision"] == self.revisions[identity]
                assert identity not in self.final
                self.final.append(identity)
                self.final_heights.append(height)
                continue
            assert message["revision"] == self.revisions.get(identity, 0) + 1
            self.revisions[identity] = int(str(message["revision"]))
            assert (self.revisions[identity] % 2 == 1) == (message["op"] == "applied")
            place = (height, int(str(message["log_index"])))
            if message["op"] == "retracted":
                assert identity not in self.final, "a final event was retracted"
                assert stream[1] not in applied_in, "retracted after applied of the same kafka_tx"
                assert place < min(retracting.get(stream[1], [(10**9, 0)])), "not newest first"
                retracting.setdefault(stream[1], []).append(place)
                del self.standing[identity]
            else:
                applied_in.add(stream[1])
                self.standing[identity] = height
        assert self.final_heights == sorted(self.final_heights)


class ChainMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.tree: dict[str, Header] = {GENESIS.hash: GENESIS}
        self.order: list[Header] = [GENESIS]
        self.view = rebased(GENESIS)
        self.blocks: dict[str, BlockState] = {}
        self.cursor = CURSOR
        self.state: list[StateWrite] = []
        self.reader = Reader()
        self.finals: list[Header] = []  # by the model

    def path(self, head: Header) -> list[Header]:
        path = [head]
        while path[0] != GENESIS:
            path.insert(0, self.tree[path[0].parent_hash])
        return path

    def expected(self, head: Header) -> tuple[Header, ...] | None:
        """The window that a look at this head must end with; None when it contradicts finality."""
        ours, final = self.view.window, self.view.finalized
        if head in ours or head.number < final.number:
            return ours
        path = self.path(head)
        return tuple(path[final.number :]) if path[final.number] == final else None

    # what happens on the chain and at the nodes

    @rule(data=st.data(), length=st.integers(1, 4))
    def mine(self, data: st.DataObject, length: int) -> None:
        recent = self.order[-10:]
        parent = data.draw(st.sampled_from([*recent, *recent, *self.order]), label="parent")
        for block in branch(parent, f"{len(self.order)}", length):
            self.tree[block.hash] = block
            self.order.append(block)

    @rule(data=st.data(), commits=st.none() | st.integers(0, 3), bytes_max=st.sampled_from([1, 4_000, 10**9]))
    def look(self, data: st.DataObject, commits: int | None, bytes_max: int) -> None:
        """A node shows its head, knows every block of its branch, and is asked until it is done (or commits end)."""
        head = data.draw(st.sampled_from([*self.order[-6:], *self.order]), label="head")
        expected = self.expected(head)
        action = self.driven(head, answers=None)
        if expected is None:
            assert isinstance(action, ViolationSuspected)
            assert action.ours == self.view.finalized
            assert self.view.candidate == ()
        elif action is None:
            assert self.view.window == expected
        else:
            assert isinstance(action, Switch)
            self.check_evidence(action)
            if self.perform(action, self.view.finalized, bytes_max=bytes_max, commits=commits):
                assert self.view.window == expected
                assert self.view.candidate == ()

    @rule(data=st.data(), answers=st.integers(0, 3), ends=st.sampled_from(["null", "error"]))
    def look_at_a_node_that_gives_out(self, data: st.DataObject, answers: int, ends: str) -> None:
        """After some answers the node has no more (null), or is gone. Nothing is published, whatever was linked."""
        head = data.draw(st.sampled_from(self.order), label="head")
        window, sent = self.view.window, len(self.state)
        action = self.driven(head, answers=answers, null=ends == "null")
        if not isinstance(action, Switch):
            assert (self.view.window, len(self.state)) == (window, sent)

    @rule(data=st.data(), off_by=st.sampled_from([-3, -1, 1, 2, 300]))
    def look_at_a_header_with_another_number(self, data: st.DataObject, off_by: int) -> None:
        """A child of a block that we hold or want, that claims another height: linked to nothing."""
        parent = data.draw(st.sampled_from([*self.view.window, *self.view.candidate, *self.order[-3:]]), label="parent")
        number = max(parent.number + 1 + off_by, 0)
        lie = header(number, f"lie {len(self.state)}", parent)
        window = self.view.window
        self.view, actions = step(self.view, HeadSeen(header=lie))
        assert not any(isinstance(action, Switch) for action in actions)
        assert self.view.window == window
        self.check_candidate()
        self.view = doubted(self.view)  # the shell's answer to a header whose parent has another number

    @rule(data=st.data())
    def answer_a_question_of_long_ago(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.order), label="asked")
        answer = data.draw(st.sampled_from([asked, None]), label="answer")
        if self.view.candidate and self.view.candidate[0].parent_hash == asked.hash:
            return
        assert step(self.view, HeaderFetched(wanted=asked.ref, header=answer)) == (self.view, ())

    @rule(data=st.data(), commits=st.none() | st.integers(0, 2), bytes_max=st.sampled_from([1, 4_000, 10**9]))
    def finality_moves(self, data: st.DataObject, commits: int | None, bytes_max: int) -> None:
        """A node's tag: of ours, of another branch, behind us, ahead of us."""
        tag = data.draw(st.sampled_from([*self.view.window, *self.order]), label="tag")
        ours = tag in self.view.window and tag.number > self.view.finalized.number
        _, actions = step(self.view, Finalized(header=tag))
        if not ours:
            assert actions == ()
            return
        blocks = self.view.window[1 : tag.number - self.view.finalized.number + 1]
        assert actions == (Finalize(blocks=blocks),)
        window = self.view.window
        if self.perform(None, tag, bytes_max=bytes_max, commits=commits):
            assert self.view.window == window[window.index(tag) :]

    @precondition(lambda self: self.state)
    @rule()
    def start_again(self) -> None:
        """Kill and restart: what was written is all there is."""
        loaded = load(self.state)
        assert loaded.cursor == self.cursor
        assert {h: (b.canonical, b.revision) for h, b in loaded.blocks.items()} == {
            h: (b.canonical, b.revision) for h, b in self.blocks.items()
        }
        window = canonical_window(self.cursor, loaded.blocks)
        assert [h.hash for h in window] == [h.hash for h in self.view.window]
        self.view = ChainView(window=self.view.window)

    # the shell

    def driven(self, head: Header, *, answers: int | None, null: bool = False) -> Action | None:
        """Steps with a head until there is nothing to fetch; the action that it ends with."""
        self.view, actions = step(self.view, HeadSeen(header=head))
        while actions and isinstance(actions[0], FetchHeader):
            self.check_candidate()
            wanted = actions[0].ref
            if answers == 0:
                if null:
                    self.view, actions = step(self.view, HeaderFetched(wanted=wanted, header=None))
                    assert actions == ()
                    assert self.view.candidate == ()
                return None
            answers = None if answers is None else answers - 1
            self.view, actions = step(self.view, HeaderFetched(wanted=wanted, header=self.tree[wanted.hash]))
        assert len(actions) <= 1
        return actions[0] if actions else None

    def perform(self, switch: Switch | None, tag: Header, *, bytes_max: int, commits: int | None) -> bool:
        """Commits a switch and finality in kafka_txs of bounded size; False when it ended after ``commits`` of them."""
        apply = [
            self.blocks[h.hash].applied_again() if h.hash in self.blocks else block_state(h, events_in(h))
            for h in (switch.apply if switch else ())
        ]
        planned = plan(
            self.view,
            blocks=self.blocks,
            retract=switch.retract if switch else (),
            apply=apply,
            tips=Tips(latest=apply[-1].header if apply else self.view.head, safe=tag, finalized=tag),
            safe_before=self.cursor.safe,
            bytes_max=bytes_max,
        )
        for done, item in enumerate(merged(list(planned), bytes_max)):
            if done == commits:
                return False
            parts = {block.header.hash: parts_of(block) for block in item.change.restated}
            tx = compose(self.cursor, item.change, parts=parts, owner=OWNER, all_partitions=False)
            self.cursor, self.view = tx.cursor, item.view
            self.state += tx.state
            self.blocks |= {block.header.hash: block for block in tx.blocks}
            for block in (*item.change.finalize, *item.change.forget):
                self.blocks.pop(block.header.hash, None)
            self.finals += [block.header for block in item.change.finalize]
            self.reader.read(tx.records)
        return True

    # what must always hold

    def check_evidence(self, switch: Switch) -> None:
        """Another hash at a height that we hold, and a branch that is linked from the common ancestor."""
        assert switch.apply
        assert switch.ancestor in self.view.window
        linked = [switch.ancestor, *switch.apply]
        for below, above in pairwise(linked):
            assert (above.parent_hash, above.number) == (below.hash, below.number + 1)
        assert list(switch.retract) == list(reversed(self.view.window[self.view.window.index(switch.ancestor) + 1 :]))
        if switch.retract:
            assert switch.apply[0].hash != switch.retract[-1].hash
            assert switch.apply[0].number == switch.retract[-1].number

    @invariant()
    def check_candidate(self) -> None:
        candidate = self.view.candidate
        for below, above in pairwise(candidate):
            assert (above.parent_hash, above.number) == (below.hash, below.number + 1)
        if candidate:
            assert candidate[0].number > self.view.finalized.number
            assert len(candidate) <= candidate[-1].number - self.view.finalized.number

    @invariant()
    def window_is_linked_and_is_a_branch_of_the_tree(self) -> None:
        path = self.path(self.view.head)
        assert list(self.view.window) == path[self.view.finalized.number :]
        assert path[1 : self.view.finalized.number + 1] == self.finals, "finality was monotone and stayed ours"

    @invariant()
    def what_stands_is_the_branch_alone(self) -> None:
        """Whatever was published before: the reader has what one who only ever saw this branch has."""
        path = self.path(self.view.head)
        assert set(self.reader.standing) == {event(b, i).event_id for b in path[1:] for i in range(events_in(b))}
        finals = [event(b, i).event_id for b in self.finals for i in range(events_in(b))]
        assert sorted(self.reader.final) == sorted(finals)

    @invariant()
    def memory_holds_what_may_come_back(self) -> None:
        assert all(block.header.number > self.view.finalized.number for block in self.blocks.values())
        canonical = [h for h, block in self.blocks.items() if block.canonical]
        assert set(canonical) == {h.hash for h in self.view.window[1:]}
        assert self.cursor.head == self.view.head.ref
        assert self.cursor.finalized == self.view.finalized.ref
        assert self.view.holds(BlockRef(number=self.cursor.safe.number, hash=self.cursor.safe.hash))


ChainMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestChainMachine = ChainMachine.TestCase
