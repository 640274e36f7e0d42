"""The remote runners of a group as one thing: asked for samples and called, with the newest weights each time."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

import hpc
from hpc import spi
from hpc.exceptions import GetTimeoutError, SessionLostError
from hpc.rllib.env.fragment import Sample
from hpc.rllib.env.members import Member, Members, Policy
from hpc.rllib.env.remote_runner import Fresh
from hpc.rllib.env.watching import LOOKS, Watch
from hpc.rllib.flow.answers import Answers
from hpc.rllib.flow.machine import Event, RunnerDied, RunnerUp, SampleDone

#: How long a wait lasts until it looks around.
LOOK_S = 0.25


class RemoteRunners:
    """Samples and calls of the members, and what becomes of those. Events are those of the flow's machines."""

    def __init__(self, cls: type, config: Any, options: Callable[[int], Mapping[str, Any]], threads: int) -> None:
        self.answers = Answers()
        self.members = Members(cls, config, options, Policy.of(config), self.answers, threads)
        self._asked: dict[int, Any] = {}
        """request: reference to the fragments"""
        self._arrived: dict[int, tuple[Sample, Any]] = {}
        self._news: deque[Event] = deque()
        self._others: list[tuple[Hashable, Any]] = []
        """Answers under keys that are not of runners"""
        self._open: list[tuple[int, int, str | None, Any]] = []
        """(runner, life, tag, reference) of calls that nobody has fetched"""
        self._serial = self._version = 0
        self._weights: dict[Any, tuple[int, Any]] = {}
        """modules (None: all of them): when they were given out, and a reference; the newest one is last"""
        self._state: tuple[int, dict[str, Any]] = (0, {})
        self.late = 0
        self._hang_s = config.env_runner_health_probe_timeout_s
        self._watch = Watch(config.sample_timeout_s, self._hang_s)
        self._next_look = 0.0

    def add(self, count: int, waits: bool) -> None:
        """Make so many more; with ``waits`` return when they are there."""
        self.members.add(count)
        while waits and len(self.members.up()) < len(self.members) and self.members.any_coming:
            self._sort(self.answers.next(LOOK_S))
            self.members.look()

    # -------------------------------------------------------------- what they are to have

    @property
    def version(self) -> int:
        """The version of the newest weights."""
        return self._version

    @property
    def weights(self) -> list[Any]:
        """References to the newest weights, which a new runner gets; none before there are any."""
        return [weights for _, weights in self._weights.values()]

    def set_weights(self, weights: Any, version: int | None = None, modules: Sequence[str] | None = None) -> int:
        """From now on runners get these weights, a reference, before what they are asked for. Returns the version.

        ``modules``: they are of these alone, and those of others hold as before."""
        self._serial += 1
        self._version = self._version + 1 if version is None else version
        key = None if modules is None else tuple(sorted(modules))
        if key is None:
            self._weights.clear()
        self._weights.pop(key, None)
        self._weights[key] = (self._serial, weights)
        return self._version

    def set_state(self, state: Mapping[str, Any]) -> None:
        """The same for parts of their state."""
        self._state = (self._state[0] + 1, {**self._state[1], **state})

    def _fresh(self, member: Member, takes_weights: bool = True) -> tuple[Any, ...] | None:
        number, state = self._state
        is_behind = member.state < number
        weights = self._newer_than(member.serial) if takes_weights or not member.serial else ()
        if not weights and not is_behind:
            return None
        member.serial, member.state = self._serial if weights else member.serial, number
        return Fresh(self._serial, self._version, weights, state if is_behind else None).wire()

    def _newer_than(self, serial: int) -> tuple[Any, ...]:
        return tuple(weights for its, weights in self._weights.values() if its > serial)

    # -------------------------------------------------------------- samples

    def ask(self, runner: int, request: int, kwargs: Mapping[str, Any], takes_weights: bool = True) -> None:
        """Ask a runner for a sample. ``takes_weights=False``: it keeps those that it has, if it has any."""
        member = self.members.rows[runner]
        if member.actor is None:
            return
        brief, fragments = member.actor.sample.remote(self._fresh(member, takes_weights), dict(kwargs))
        self._asked[request] = fragments
        self._watch.ask(runner, request, time.monotonic())
        self.answers.expect(("sample", runner, member.life, request), brief)

    def push(self, runner: int) -> None:
        """Give a runner the newest weights in the middle of its fragment, unless such are on their way.

        Nobody waits for the answer: the samples of a runner that has failed tell of it."""
        member = self.members.rows[runner]
        if member.actor is None or member.has_mail or member.serial >= self._serial:
            return
        fresh = Fresh(self._serial, self._version, self._newer_than(member.serial))
        member.serial, member.has_mail = self._serial, True
        posted = member.actor.post.remote(*fresh.wire()[:3])
        spi.when_ready(posted, _has_mail_no_more, member, posted)

    def look_at(self, request: int) -> Sample | None:
        """The sample that has come for a request, without its fragments."""
        found = self._arrived.get(request)
        return found[0] if found is not None else None

    def take(self, request: int) -> tuple[Sample, Any]:
        """What has come for a request: the sample without its fragments, and the reference to those."""
        return self._arrived.pop(request)

    def forget(self, request: int) -> None:
        """Nobody will take what has come for this request, if it is there still."""
        self._arrived.pop(request, None)

    def forget_arrived(self) -> None:
        """Nobody will take what has come."""
        self._arrived.clear()

    @property
    def asked(self) -> int:
        """How many samples have not come."""
        return len(self._asked)

    # -------------------------------------------------------------- events

    def events(self, timeout_s: float | None) -> tuple[list[Event], list[tuple[Hashable, Any]]]:
        """What has happened to runners, and answers under other keys. It waits so long for the first.

        Raises a runner's error if failures are neither mended nor ignored."""
        self._look()
        if not self._news and not self._others:
            self._sort(self.answers.next(timeout_s))
        found, others = list(self._news), self._others
        self._news.clear()
        self._others = []
        return found, others

    def _look(self) -> None:
        """Make runners whose time has come, and lose those that hang or do not come up."""
        self.members.look()
        now = time.monotonic()
        if now < self._next_look:
            return
        self._next_look = now + min(1.0, self._hang_s / LOOKS)
        # What has come while the program did something else is read before anybody is judged for not coming.
        self._sort(self.answers.next(0))
        asks, hang = self._watch.look(now)
        for runner in asks:
            member = self.members.rows[runner]
            self.answers.expect(("rows", runner, member.life), member.actor.rows.remote())
        for runner in hang:
            text = (
                f"it has made no step of its environments for {self._hang_s:g} s, and no sample for longer than "
                "sample_timeout_s before: config.fault_tolerance(env_runner_health_probe_timeout_s=) is how long it may"
            )
            self.fail(runner, self.members.rows[runner].life, GetTimeoutError(text))
        for runner, error in self.members.late(now):
            self.fail(runner, self.members.rows[runner].life, error)

    def _sort(self, answers: Iterable[tuple[Hashable, Any]]) -> None:
        """Take all answers in; the first error is raised when that is done, since nobody tells of the others again."""
        wrong: Exception | None = None
        for key, value in answers:
            try:
                self._take_in(key, value)
            except SessionLostError:
                raise
            except Exception as error:
                wrong = wrong or error
        if wrong is not None:
            raise wrong

    def _take_in(self, key: Hashable, value: Any) -> None:
        rest: list[Any]
        kind, *rest = key if isinstance(key, tuple) else (None,)
        if kind == "sample":
            self._sampled(rest[0], rest[1], rest[2], value)
        elif kind == "up":
            if self.members.arrived(rest[0], rest[1], value):
                self._news.append(RunnerUp(rest[0]))
        elif kind == "called":
            self._called(rest[0], rest[1], value)
        elif kind == "rows":
            self._counted(rest[0], rest[1], value)
        else:
            self._others.append((key, value))

    def _sampled(self, runner: int, life: int, request: int, ref: Any) -> None:
        fragments = self._asked.pop(request)
        try:
            brief: Sample = hpc.get(ref)
        except SessionLostError:
            raise
        except Exception as error:
            self.fail(runner, life, error)
            return
        self.members.worked(runner, life)
        self._watch.answer(runner, request)
        self._arrived[request] = (brief, fragments)
        self._news.append(SampleDone(runner, request, brief.env_steps, mean_version(brief)))

    def _counted(self, runner: int, life: int, ref: Any) -> None:
        if not self.members.is_of(runner, life):
            return
        try:
            self._watch.told(runner, hpc.get(ref), time.monotonic())
        except SessionLostError:
            raise
        except Exception as error:
            self.fail(runner, life, error)

    def _called(self, runner: int, life: int, ref: Any) -> None:
        try:
            hpc.get(ref)
        except SessionLostError:
            raise
        except Exception as error:
            self.fail(runner, life, error)

    def fail(self, runner: int, life: int, error: Exception) -> None:
        """A call to a runner has failed. Whoever asks runners hears of it, also where the error is raised: a program
        may catch it and go on."""
        is_news = self.members.is_of(runner, life)
        if is_news:
            self._watch.forget(runner)
        try:
            self.members.failed(runner, life, error)
        finally:
            if is_news:
                self._news.append(RunnerDied(runner))

    # -------------------------------------------------------------- calls

    def call(
        self, func: Any, kwargs: Any, ids: Sequence[int] | None, tag: str | None = None, most: int | None = None
    ) -> list[tuple[int, int, Any]]:
        """Call a function, or one for each, on these runners: (runner, life, reference) of each call. A runner that has
        ``most`` calls of the tag gets none."""
        up = self.members.up()
        calls = []
        for place, index in enumerate(up if ids is None else [index for index in ids if index in up]):
            member = self.members.rows[index]
            if most is not None and self.in_flight(tag, index) >= most:
                continue
            one = func[place] if isinstance(func, (list, tuple)) else func
            ref = member.actor.call.remote(self._fresh(member), one, dict(nth(kwargs, place)))
            calls.append((index, member.life, ref))
        return calls

    def leave_alone(self, calls: Iterable[tuple[int, int, Any]]) -> None:
        """Nobody will ask for the answers to these calls; errors are heard of."""
        for index, life, ref in calls:
            self.answers.expect(("called", index, life), ref)

    def leave_open(self, calls: Iterable[tuple[int, int, Any]], tag: str | None = None) -> None:
        """Nobody waits for these calls now; `fetch` may bring them."""
        self._open.extend((index, life, tag, ref) for index, life, ref in calls)

    def in_flight(self, tag: str | None = None, runner: int | None = None) -> int:
        """How many calls are open: of a tag, to a runner."""
        return sum(1 for index, _, its, _ in self._open if tag in (None, its) and runner in (None, index))

    def results(self, calls: Sequence[tuple[int, int, Any]], timeout_s: float | None) -> list[tuple[int, Any]]:
        """The answers to calls, each with its runner. What does not come in time is left alone."""
        if calls and timeout_s is not None:
            hpc.wait([ref for _, _, ref in calls], num_returns=len(calls), timeout=timeout_s)
        return [pair for call in calls for pair in self._result(*call, None if timeout_s is None else 0.0)]

    def _result(self, index: int, life: int, ref: Any, timeout_s: float | None) -> list[tuple[int, Any]]:
        try:
            return [(index, hpc.get(ref, timeout=timeout_s))]
        except SessionLostError:
            raise
        except GetTimeoutError:
            self.late += 1
            self.leave_alone([(index, life, ref)])
        except Exception as error:
            self.fail(index, life, error)
        return []

    def fetch(self, tags: Any, timeout_s: float | None, as_references: bool) -> list[tuple[int, Any]]:
        """Answers to open calls that are there, each with its runner. It waits so long for the first."""
        names = None if tags is None else {tags} if isinstance(tags, str) else set(tags)
        mine = [call for call in self._open if names is None or call[2] in names]
        refs = [call[3] for call in mine]
        if not refs or not hpc.wait(refs, num_returns=1, timeout=timeout_s)[0]:
            return []
        ready = set(hpc.wait(refs, num_returns=len(refs), timeout=0)[0])
        done = [call for call in mine if call[3] in ready]
        self._open = [call for call in self._open if call not in done]
        if as_references:
            return [(index, ref) for index, _, _, ref in done]
        return [pair for index, life, _, ref in done for pair in self._result(index, life, ref, None)]


def _has_mail_no_more(member: Member, posted: Any) -> None:
    """Called by the thread that reads answers. A reference that nobody holds has none: so ``posted`` comes along."""
    member.has_mail = False


def mean_version(sample: Sample) -> float:
    """The version of the weights that acted, in the mean over its rows."""
    if not sample.versions:
        return float(sample.version)
    rows = max(sample.rows, sample.versions[-1][0] + 1)
    total, version, since = 0.0, sample.version, 0
    for row, newer in sample.versions:
        total += version * (row - since)
        version, since = newer, row
    return (total + version * (rows - since)) / rows


def nth(kwargs: Any, place: int) -> Mapping[str, Any]:
    """The keywords for this runner: the same for all, or one dict for each."""
    if kwargs is None:
        return {}
    found: Mapping[str, Any] = kwargs if isinstance(kwargs, Mapping) else kwargs[place]
    return found
