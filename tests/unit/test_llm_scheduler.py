"""The scheduler of tokens: blocks are shared rightly and never lost, nobody is overtaken, all come to their end."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpc.serve.llm.blocks import Blocks
from hpc.serve.llm.engine import TooLong
from hpc.serve.llm.scheduler import Chunk, Outcome, Scheduler, SchedulerConfig

SMALL = SchedulerConfig(num_blocks=12, block_size=4, max_batch_tokens=8, max_running=4, context_length=40)


class Wish(msgspec.Struct):
    """A sequence that comes at a step, and may be cancelled at one."""

    tokens: list[int]
    most: int
    at: int = 0
    priority: int = 0
    adapter: str = ""
    cancelled_at: int | None = None


class Simulation:
    """A scheduler and a model whose memory lies in the blocks: wrong blocks make wrong tokens."""

    def __init__(self, config: SchedulerConfig) -> None:
        self.scheduler = Scheduler(config)
        self.config = config
        #: In each place of each block: what was read up to there.
        self.memory: dict[tuple[int, int], tuple[object, ...]] = {}
        self.made: dict[str, list[int]] = {}
        self.ended: dict[str, str] = {}
        self.first_step: dict[str, int] = {}
        self.steps = 0
        self.adapters: dict[str, str] = {}

    def add(self, name: str, wish: Wish) -> None:
        self.scheduler.add(name, wish.tokens, wish.most, frozenset({0}), wish.priority, wish.adapter)
        self.made[name] = []
        self.adapters[name] = wish.adapter

    def step(self) -> list[Outcome]:
        plan = self.scheduler.plan()
        self.check()
        assert sum(len(chunk.tokens) for chunk in plan) <= self.config.max_batch_tokens
        assert len(plan) <= self.config.max_running
        sampled = {chunk.id: token for chunk in plan if (token := self.computed(chunk)) is not None}
        outcomes = self.scheduler.commit(sampled)
        self.check()
        for outcome in outcomes:
            self.first_step.setdefault(outcome.id, self.steps)
            if outcome.end != "stop":
                self.made[outcome.id].append(outcome.token)
            if outcome.end is not None:
                self.ended[outcome.id] = outcome.end
        self.steps += 1
        return outcomes

    def computed(self, chunk: Chunk) -> int | None:
        size = self.config.block_size
        read: tuple[object, ...] = (self.adapters[chunk.id],)
        if chunk.start:
            read = self.memory[chunk.blocks[(chunk.start - 1) // size], (chunk.start - 1) % size]
        for place, token in enumerate(chunk.tokens, chunk.start):
            read = (*read, token)
            self.memory[chunk.blocks[place // size], place % size] = read
        return following(read) if chunk.samples else None

    def check(self) -> None:
        """Each block is used by as many as say so, or is free; those that are shared have what all of them read."""
        blocks = self.scheduler.blocks
        held = Counter(block for one in self.scheduler._all.values() for block in one.blocks)
        for block in range(blocks.total):
            assert blocks.users(block) == held[block]
        assert blocks.free + len(held) == blocks.total
        assert len({*blocks._empty, *blocks._left}) == blocks.free
        for one in self.scheduler._all.values():
            assert one.is_running == bool(one.blocks)
            assert len(set(one.blocks)) == len(one.blocks)


def following(read: tuple[object, ...]) -> int:
    """The token that follows: 0 ends the sequence."""
    return random.Random(repr(read)).randrange(12)


def alone(wish: Wish) -> list[int]:
    """What a sequence gets where nobody else is: the specification."""
    read: tuple[object, ...] = (wish.adapter, *wish.tokens)
    made: list[int] = []
    while len(made) < wish.most and (token := following(read)):
        made.append(token)
        read = (*read, token)
    return made


def run(config: SchedulerConfig, wishes: dict[str, Wish]) -> Simulation:
    """All wishes to their ends."""
    simulation = Simulation(config)
    left = dict(wishes)
    for step in range(4000):
        for name, wish in list(left.items()):
            if wish.at <= step:
                simulation.add(name, left.pop(name))
        for name, wish in wishes.items():
            if wish.cancelled_at == step and simulation.scheduler.cancel(name):
                simulation.ended[name] = "cancel"
        if not simulation.scheduler.has_work and not left:
            return simulation
        simulation.step()
    raise AssertionError(f"these never end: {set(wishes) - set(simulation.ended)}")


#: Prompts that often begin alike.
PREFIXES = ([1] * 9, [1] * 8, [1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3, 4])
PROMPTS = st.builds(
    lambda prefix, rest: (prefix + rest)[:30],
    st.sampled_from(PREFIXES),
    st.lists(st.integers(1, 3), min_size=1, max_size=20),
)
WISHES = st.builds(
    Wish,
    tokens=PROMPTS,
    most=st.integers(1, 10),
    at=st.integers(0, 20),
    priority=st.integers(0, 2),
    adapter=st.sampled_from(["", "", "a", "b"]),
    cancelled_at=st.none() | st.integers(0, 30),
)
CONFIGS = st.builds(
    SchedulerConfig,
    num_blocks=st.integers(10, 30),
    block_size=st.just(4),
    max_batch_tokens=st.integers(6, 30),
    max_running=st.integers(1, 6),
    context_length=st.just(40),
    share_prefixes=st.booleans(),
)


@settings(max_examples=200)
@given(config=CONFIGS, wishes=st.lists(WISHES, min_size=1, max_size=14))
def test_what_a_sequence_gets_is_its_own_affair(config: SchedulerConfig, wishes: list[Wish]) -> None:
    named = {str(number): wish for number, wish in enumerate(wishes)}
    simulation = run(config, named)
    for name, wish in named.items():
        whole = alone(wish)
        if simulation.ended[name] == "cancel":
            assert simulation.made[name] == whole[: len(simulation.made[name])]
        else:
            assert simulation.made[name] == whole
            assert simulation.ended[name] == ("length" if len(whole) == wish.most else "stop")
    blocks = simulation.scheduler.blocks
    assert blocks.used == 0
    assert blocks.free == blocks.total


@settings(max_examples=100)
@given(config=CONFIGS, wishes=st.lists(WISHES, min_size=2, max_size=14))
def test_nobody_is_overtaken_within_a_priority(config: SchedulerConfig, wishes: list[Wish]) -> None:
    """A prompt that came later is not begun before one that came earlier, whatever their lengths."""
    for wish in wishes:
        wish.priority, wish.cancelled_at = 0, None
    simulation = Simulation(config)
    order = sorted(wishes, key=lambda wish: wish.at)
    for number, wish in enumerate(order):
        simulation.add(str(number), wish)
    begun: list[str] = []
    while simulation.scheduler.has_work:
        plan = simulation.scheduler.plan()
        begun += [chunk.id for chunk in plan if chunk.id not in begun]
        sampled = {chunk.id: token for chunk in plan if (token := simulation.computed(chunk)) is not None}
        simulation.scheduler.commit(sampled)
    assert begun == sorted(begun, key=int)


def finish(simulation: Simulation) -> Iterator[list[Outcome]]:
    while simulation.scheduler.has_work:
        yield simulation.step()


def test_a_long_prompt_does_not_hold_up_those_that_run() -> None:
    config = SchedulerConfig(num_blocks=40, block_size=4, max_batch_tokens=8, max_running=4, context_length=100)
    simulation = Simulation(config)
    for name in ("a", "b"):
        simulation.add(name, Wish([int(name == "a") + 1, 2], 30))
    simulation.step()
    simulation.add("long", Wish([3] * 80, 1))
    while "long" not in simulation.ended:
        running = {name for name in ("a", "b") if name not in simulation.ended}
        assert {outcome.id for outcome in simulation.step()} - {"long"} == running
    assert simulation.first_step["long"] >= 80 // 8


def test_a_prefix_is_computed_once() -> None:
    simulation = run(SMALL, {"a": Wish([1] * 12 + [2], 1), "b": Wish([1] * 12 + [3], 1, at=5)})
    assert simulation.scheduler.prefix_hits == 12


def test_adapters_share_nothing() -> None:
    wishes = {"a": Wish([1] * 13, 1), "b": Wish([1] * 13, 1, at=5, adapter="b")}
    assert run(SMALL, wishes).scheduler.prefix_hits == 0


def test_a_higher_priority_takes_memory_and_what_it_displaced_still_comes_to_its_end() -> None:
    simulation = Simulation(SMALL)
    low = Wish([1, 2, 3] * 10, 9)
    simulation.add("low", low)
    for _ in range(5):
        simulation.step()
    simulation.add("high", Wish([3] * 30, 2, priority=1))
    seen = [outcome.id for outcomes in finish(simulation) for outcome in outcomes]
    assert simulation.scheduler.preempted >= 1
    assert seen.index("high") < len(seen) - 1
    assert simulation.made["low"] == alone(low)


def test_a_cancelled_sequence_gives_its_blocks_back_at_the_next_step() -> None:
    simulation = Simulation(SMALL)
    simulation.add("a", Wish([1] * 20, 9))
    simulation.step()
    assert simulation.scheduler.blocks.used == 5
    assert simulation.scheduler.cancel("a")
    assert not simulation.scheduler.cancel("a")
    simulation.step()
    assert simulation.scheduler.blocks.used == 0
    assert not simulation.scheduler.has_work


def test_a_cancel_between_plan_and_commit_is_heard() -> None:
    scheduler = Scheduler(SMALL)
    scheduler.add("a", [1, 2], 5)
    scheduler.plan()
    scheduler.cancel("a")
    assert scheduler.commit({"a": 3}) == []
    assert scheduler.plan() == []
    assert scheduler.blocks.used == 0
    scheduler.commit({})


def test_what_has_no_room_is_refused_with_its_size() -> None:
    scheduler = Scheduler(SMALL)
    with pytest.raises(TooLong, match="40 tokens; at most 39"):
        scheduler.add("a", [1] * 40, 1)
    scheduler.add("b", [1] * 38, 100)
    with pytest.raises(ValueError, match="served already"):
        scheduler.add("b", [1], 1)
    with pytest.raises(ValueError, match="at least 1"):
        scheduler.add("c", [], 1)


def test_a_step_is_committed_before_the_next() -> None:
    scheduler = Scheduler(SMALL)
    with pytest.raises(RuntimeError, match="no step"):
        scheduler.commit({})
    scheduler.plan()
    with pytest.raises(RuntimeError, match="not been committed"):
        scheduler.plan()


@pytest.mark.parametrize("name", ["num_blocks", "block_size", "max_batch_tokens", "max_running", "context_length"])
def test_bounds_are_at_least_one(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=0"):
        SchedulerConfig(**{name: 0})


def test_each_running_sequence_has_a_token_of_each_step() -> None:
    with pytest.raises(ValueError, match="max_batch_tokens=3"):
        SchedulerConfig(max_batch_tokens=3, max_running=4)


def test_a_block_that_is_given_back_twice_is_seen() -> None:
    blocks = Blocks(2, 4)
    block = blocks.take()
    blocks.give_back([block])
    with pytest.raises(ValueError, match="does not use it"):
        blocks.give_back([block])


def test_the_block_that_was_left_first_loses_its_content_first() -> None:
    blocks = Blocks(2, 4)
    first, second = blocks.take(), blocks.take()
    blocks.name(first, b"first")
    blocks.name(second, b"second")
    blocks.give_back([first])
    blocks.give_back([second])
    assert blocks.take() == first
    assert blocks.find(b"first") is None
    assert blocks.find(b"second") == second
    assert blocks.take() == second
    with pytest.raises(IndexError):
        blocks.take()


def test_what_was_shared_is_forgotten_when_it_is_asked_for() -> None:
    simulation = run(SMALL, {"a": Wish([1] * 13, 1)})
    simulation.scheduler.blocks.forget_all()
    simulation.add("b", Wish([1] * 13, 1))
    for _ in finish(simulation):
        pass
    assert simulation.scheduler.prefix_hits == 0


def test_the_simulation_sees_a_block_that_is_shared_wrongly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys that forget what was before a block make two sequences share what differs."""
    monkeypatch.setattr("hpc.serve.llm.scheduler.key_of", lambda parent, tokens: bytes(tokens))
    wishes = {"a": Wish([1] * 4 + [2] * 4 + [3], 4), "b": Wish([2] * 4 + [3], 4, at=9)}
    simulation = run(SMALL, wishes)
    assert simulation.made["a"] == alone(wishes["a"])
    assert simulation.made["b"] != alone(wishes["b"])


def test_the_simulation_sees_a_block_that_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Blocks, "give_back", lambda self, blocks: None)
    with pytest.raises(AssertionError):
        run(SMALL, {"a": Wish([1] * 9, 2)})
