"""Asking a search in a thread: the runner goes on meanwhile, and is told each answer."""

from __future__ import annotations

import pickle
import queue
import threading
import time

import pytest

from hpc.tune import space as tune
from hpc.tune.events import Exhausted, NothingNow, Suggested
from hpc.tune.search import ConcurrencyLimiter, Searcher
from hpc.tune.search.asking import Asking, SearchFailed
from hpc.tune.search.preparing import prepare


class Held(Searcher):
    """A searcher that waits in `suggest` until it is let go, and records what it is told."""

    def __init__(self, held: bool = False):
        super().__init__("loss", "min")
        self.gate = threading.Event()
        self.inside = threading.Event()
        self.made = 0
        self.told: list = []
        if not held:
            self.gate.set()

    def suggest(self, trial_id):
        self.inside.set()
        assert self.gate.wait(20)
        self.made += 1
        return {"x": self.made}

    def on_trial_result(self, trial_id, result):
        self.told.append(result["loss"])
        if result["loss"] == "bad":
            raise KeyError("the searcher is broken")

    def on_trial_complete(self, trial_id, result=None, error=False):
        self.told.append((result or {}).get("loss", "error"))

    def on_pause(self, trial_id):
        self.told.append(f"pause {trial_id}")

    def state(self):
        return {"made": self.made, "told": list(self.told)}

    def load(self, state):
        self.made, self.told = state["made"], list(state["told"])

    def adopt(self, trial_id, parameters):
        self.made += 1
        return True


class Asked:
    """An `Asking` and its answers."""

    def __init__(self, searcher, num_samples: int = 99, **options):
        self.answers: queue.Queue = queue.Queue()
        self.asking = Asking(prepare(searcher, {}, num_samples=num_samples, **options), self.answers.put)

    def ask(self, count: int = 1):
        self.asking.ask(count)
        return self.answers.get(timeout=20)


def test_a_slow_searcher_does_not_stop_its_runner():
    searcher = Held(held=True)
    asked = Asked(searcher)
    begin = time.perf_counter()
    asked.asking.ask(1)
    assert searcher.inside.wait(20)
    for number in range(100):
        asked.asking.on_trial_result("t", {"loss": number})
    asked.asking.state()
    assert asked.answers.empty() and time.perf_counter() - begin < 5
    searcher.gate.set()
    assert asked.answers.get(timeout=20).suggestions[0].config == {"x": 1}
    asked.asking.close()
    assert searcher.told == list(range(100))


def test_what_is_told_comes_before_the_next_question_and_in_order():
    searcher = Held()
    asked = Asked(searcher)
    for number in range(50):
        asked.asking.on_trial_complete(f"t{number}", {"loss": number})
        if number == 25:
            asked.asking.searcher.on_pause("t9")
    assert isinstance(asked.ask(), Suggested)
    assert searcher.told == [*range(26), "pause t9", *range(26, 50)]
    asked.asking.close()


def test_an_error_of_the_searcher_is_told_once_and_ends_it():
    asked = Asked(Held())
    asked.asking.on_trial_result("t", {"loss": "bad"})
    answer = asked.answers.get(timeout=20)
    assert isinstance(answer, SearchFailed) and "the searcher is broken" in str(answer.error)
    asked.asking.ask(1)
    asked.asking.on_trial_complete("t", {"loss": 1})
    asked.asking.close()
    assert asked.answers.empty()


def test_a_searcher_whose_state_cannot_be_saved_is_an_error_that_names_it():
    class Locked(Held):
        def state(self):
            return threading.Lock()

    answer = Asked(Locked()).ask()
    assert isinstance(answer, SearchFailed) and "state of Locked cannot be saved" in str(answer.error)


def test_an_error_of_a_quick_search_is_told_too():
    asked = Asked(None)
    asked.asking = Asking(prepare(None, {"a": tune.sample_from(lambda: 1 / 0)}), asked.answers.put)
    answer = asked.ask()
    assert isinstance(answer, SearchFailed) and "division by zero" in str(answer.error)


def test_a_searcher_that_waits_is_asked_again_after_a_trial_has_ended():
    asked = Asked(ConcurrencyLimiter(Held(), 1), num_samples=2)
    (first,) = asked.ask(4).suggestions
    assert isinstance(asked.ask(), NothingNow)
    asked.asking.on_trial_complete(first.trial_id, {"loss": 1})
    (second,) = asked.ask().suggestions
    assert isinstance(asked.ask(), Exhausted) and asked.asking.is_finished()
    assert second.config == {"x": 2} and asked.asking.total_samples == 2
    asked.asking.close()


def test_a_search_of_one_trial_after_the_other_knows_all_results():
    class Slow(Held):
        def suggest(self, trial_id):
            time.sleep(0.01)
            assert len(self.told) == self.made
            return super().suggest(trial_id)

    asked = Asked(Slow())
    for number in range(10):
        (one,) = asked.ask().suggestions
        asked.asking.on_trial_complete(one.trial_id, {"loss": number})
    asked.asking.close()


def test_nothing_is_asked_ahead_while_asking_is_quick():
    searcher = Held()
    asked = Asked(searcher)
    for _ in range(4):
        (one,) = asked.ask().suggestions
        time.sleep(0.05)
        asked.asking.on_trial_complete(one.trial_id, {"loss": 1})
    asked.asking.close()
    assert searcher.made == 4


def test_a_slow_searcher_is_asked_ahead_of_need():
    class Slow(Held):
        ahead = threading.Event()

        def suggest(self, trial_id):
            time.sleep(0.02)
            if self.made == 7:
                self.ahead.set()
            return super().suggest(trial_id)

    searcher = Slow()
    asked = Asked(searcher)
    running = [asked.ask().suggestions[0] for _ in range(5)]
    assert searcher.made == 5
    for one in running[:2]:
        asked.asking.on_trial_complete(one.trial_id, {"loss": 1})
    running += asked.ask().suggestions + asked.ask().suggestions
    assert searcher.ahead.wait(20)
    asked.asking.close()


def test_results_are_not_sent_to_a_searcher_that_does_not_hear_them():
    class Deaf(Searcher):
        def suggest(self, trial_id):
            return {}

    asked = Asked(Deaf())
    asked.asking.on_trial_result("t", {"loss": 1})
    assert asked.asking._thread is None


def test_a_state_holds_what_was_told_and_what_was_not_given_yet():
    class Slow(Held):
        def suggest(self, trial_id):
            time.sleep(0.01)
            return super().suggest(trial_id)

    asked = Asked(Slow())
    given = [asked.ask().suggestions[0]]
    state = asked.asking.state()
    for number in range(5):
        asked.asking.on_trial_complete("t", {"loss": number})
    given += asked.ask().suggestions
    middle = pickle.dumps(asked.asking.state())
    asked.asking.close()
    end = asked.asking.state()

    def again(state):
        other = Asked(Held())
        other.asking.load(state)
        searcher = other.asking.search.innermost
        return searcher.made, searcher.told, other

    assert again(state)[:2] == (1, [])
    made, told, other = again(pickle.loads(middle))
    assert told == list(range(5)) and made >= 2
    assert [one.trial_id for one in given if one.trial_id in str(other.asking._ready)] == []
    assert again(end)[1] == list(range(5))
    # A trial that the journal has, and the state too, is taken from what is ready.
    for one in list(other.asking._ready):
        other.asking.adopt(one)
    assert other.asking.search.innermost.made == made


def test_a_state_after_many_results_is_no_longer_than_the_last_thousand():
    asked = Asked(Held())
    for number in range(5000):
        asked.asking.on_trial_result("t", {"loss": number})
    asked.ask()
    state = asked.asking.state()
    assert len(state["later"]) <= 1002
    other = Asked(Held())
    other.asking.load(state)
    assert other.asking.search.innermost.told == list(range(5000))
    asked.asking.close()


@pytest.mark.parametrize("searcher", [None, "thread"])
def test_telling_and_asking_cost_the_runner_little(searcher):
    asked = Asked(None if searcher is None else Held(), num_samples=-1)
    begin = time.thread_time()
    for number in range(500):
        asked.ask()
        asked.asking.on_trial_complete(f"t{number}", {"loss": 1})
    assert (time.thread_time() - begin) / 500 < 1e-3
    asked.asking.close()
