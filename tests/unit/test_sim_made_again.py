"""A program in the simulation that random ones seldom are: a call that is made again comes behind one that needs it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hpc.core.sim.programs import Program
from hpc.core.sim.run import Simulation
from hpc.core.sim.users import ActorSim, Expect

VALUE, OWN = 200_001, 9
#: All that node 1 has room for.
FILLERS = 3


class Story:
    """An actor gives a value on one node and lives on, after a restart, on another one. A call with that value waits in
    its queue when the first node dies."""

    def __init__(self, seed: int, silently: bool) -> None:
        self.simulation = Simulation(seed, operations=0, groups=0)
        self.world, self.user = self.simulation.world, self.simulation.users[0]
        self.submitter = self.user.submitter
        self.world.quiet = True  # nothing is lost, or vacated, but what the story says
        for link in self.world.links.values():
            link.loss = 0.0
        self.silently = silently
        self.moved = False
        self.value = b""
        #: What the call that needs the value gave.
        self.got: object = None

    def run(self) -> list[str]:
        for _ in range(FILLERS):
            self._expect(self.submitter.submit(Program(1, 0.2), []), Expect(1))
        for at, what in [(0.05, self.begin), (0.5, self.move), (1.0, self.need), (1.02, self.lose)]:
            self.world.clock.after(at, what)
        self.simulation.quiet_at = self.simulation.groups_end_at = 3.0
        return self.simulation.run().problems

    def begin(self) -> None:
        """While node 1 is full."""
        self.actor = ActorSim(self.submitter.create(-1), True)
        self.user.actors.append(self.actor)
        self.value = self.call(Program(VALUE, large=True))

    def move(self) -> None:
        """It is not full any more."""
        self.world.deaths += 1
        self.world.kill_process(self.world.hosts[self.actor.ident][-1])

    def need(self) -> None:
        result = self.user.process.machine.state.entries[self.value].result
        assert result is not None
        self.nodes = result.nodes
        self.moved = 1 not in self.nodes and self.world.hosts[self.actor.ident][-1].addr.node not in self.nodes
        self.call(Program(1, 0.2))
        reader = self.call(Program(OWN), [self.value])
        self.submitter.when_all([reader], lambda: setattr(self, "got", self.submitter.result(reader)))

    def lose(self) -> None:
        for node in self.nodes if self.moved else ():
            self.world.deaths += 1
            self.world.kill_node(node, self.silently)

    def call(self, program: Program, refs: Sequence[bytes] = ()) -> bytes:
        needed = [self.user.expected[ref] for ref in refs]
        total = program.number + sum(one.total for one in needed)
        ident = self.submitter.call(self.actor.ident, program, -1, refs=list(refs))
        behind = self.world if needed else None
        self._expect(ident, Expect(total, False, needed, actor=self.actor, behind_in=behind))
        return ident

    def _expect(self, ident: bytes, expect: Expect) -> None:
        """Without a look at the value, which would bring it to the user's node."""
        self.user.expected[ident] = expect
        self.submitter.when_all([ident], lambda: self.user.done.add(ident))


@pytest.mark.parametrize("silently", [False, True], ids=["the owner learns it first", "the call may be first"])
def test_the_call_that_is_in_the_way_gets_an_error_and_the_value_is_made_again(silently):
    """The simulation checks the value: nothing excuses that from being there."""
    stories = [Story(seed, silently) for seed in range(14)]
    assert not [problem for story in stories for problem in story.run()]
    got = [story.got for story in stories if story.moved]
    assert len(got) >= 5 and set(got) == {"ObjectReconstructionFailedError"}, got
