"""What to change before the next run, from the facts of a report: each sentence names its number. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from hpc.report.collect import quantile
from hpc.report.facts import Facts, Use
from hpc.state.spend import spend

#: Below this share given to work, what was asked for was mostly idle.
IDLE_SHARE = 0.3
#: Shorter jobs say little about how much is needed.
LEAST_S = 60.0
#: Tasks that are shorter are mostly overhead, if there are many.
SHORT_S, MANY = 0.002, 1000
#: One that takes this many times as long as nine of ten of its name holds up what waits for all.
STRAGGLER, LONG_S = 5.0, 30.0
FULL_MEMORY = 0.9
WALLTIME_SHARE = 0.25
WAIT_SHARE = 0.3


def mean_busy(uses: list[Use], name: str) -> float | None:
    """How busy CPUs or GPUs were in all looks that know it; None where none does."""
    means = [spread[1] for use in uses if (spread := getattr(use, name)) is not None]
    return sum(means) / len(means) if means else None


def advice(facts: Facts) -> list[str]:
    """The sentences, the most costly matters first; empty where there is nothing to say."""
    return [text for rule in RULES for text in rule(facts)]


def _ending(facts: Facts) -> Iterator[str]:
    if facts.ending.cause == "walltime":
        yield "The time limit ended the job: ask for more (--time), or let a chain of jobs go on (--chain)."
    lost = [node for node in facts.nodes if not node.alive]
    if facts.ending.cause in ("lost", "killed") and lost:
        names = ", ".join(node.host for node in lost[:5])
        yield f"{len(lost)} nodes were lost ({names}): look at them before the next run, or leave them out."


def _gpus(facts: Facts) -> Iterator[str]:
    share = spend(facts.uses).gpu_share
    mean = mean_busy(facts.uses, "gpu_busy")
    if share is not None and share < IDLE_SHARE and _is_long(facts):
        yield f"GPUs were given to nobody for {1 - share:.0%} of the time: ask for fewer, or give tasks num_gpus."
    elif mean is not None and mean < IDLE_SHARE and _is_long(facts):
        yield f"GPUs that were given to work computed for {mean:.0%} of the time: look at what feeds them."


def _cpus(facts: Facts) -> Iterator[str]:
    share = spend(facts.uses).cpu_share
    mean = mean_busy(facts.uses, "cpu_busy")
    if share is not None and share < IDLE_SHARE and (mean is None or mean < IDLE_SHARE) and _is_long(facts):
        yield (
            f"CPUs were given to tasks and actors for {share:.0%} of the time: ask for fewer nodes, "
            "or submit more tasks at a time."
        )


def _time(facts: Facts) -> Iterator[str]:
    asked, used = facts.job.asked_s, facts.seen_s - facts.began_s
    if asked and facts.ending.cause == "normal" and asked > 600 and used < WALLTIME_SHARE * asked:
        yield (
            f"The job asked for {asked / 3600:.1f} h and used {used / 3600:.2f} h: "
            "a shorter time limit lets it start sooner."
        )


def _failures(facts: Facts) -> Iterator[str]:
    for one in facts.named:
        if one.failed and one.failed >= 0.01 * one.count:
            yield f"{one.failed} of {one.count} runs of {one.name} failed: see the first of them below."


def _memory(facts: Facts) -> Iterator[str]:
    most = max((use.memory[2] for use in facts.uses if use.memory is not None), default=0.0)
    if most >= FULL_MEMORY:
        yield f"A node used {most:.0%} of its memory: ask for more per node, or let fewer tasks run on it at a time."
    spilled = max((use.spilled_bytes for use in facts.uses), default=0)
    if spilled:
        yield (
            f"{spilled / 1e9:.2f} GB of objects were written to disk because the object store was full: "
            "a larger object_store_memory, or letting references go sooner, avoids that."
        )


def _short(facts: Facts) -> Iterator[str]:
    for one in facts.named:
        middle = quantile(one.bins, 0.5)
        if one.count >= MANY and middle < SHORT_S:
            yield f"{one.count} runs of {one.name} took {middle * 1e3:.2g} ms each: let each do more at a time."


def _stragglers(facts: Facts) -> Iterator[str]:
    for one in facts.named:
        usual = quantile(one.bins, 0.9)
        if one.count >= 10 and one.most_s > LONG_S and one.most_s > STRAGGLER * usual:
            yield (
                f"One run of {one.name} took {one.most_s:.0f} s, nine of ten less than {usual:.2g} s: "
                "see the slowest below."
            )


def _waits(facts: Facts) -> Iterator[str]:
    looks = len(facts.uses)
    for wish, times in facts.waits.items():
        if looks >= 6 and times >= WAIT_SHARE * looks:
            yield f"In {times / looks:.0%} of the looks this waited for a worker: {wish}."


def _is_long(facts: Facts) -> bool:
    return facts.seen_s - facts.began_s >= LEAST_S


RULES: tuple[Callable[[Facts], Iterator[str]], ...] = (
    _ending, _failures, _gpus, _cpus, _memory, _time, _waits, _stragglers, _short,
)  # fmt: skip
