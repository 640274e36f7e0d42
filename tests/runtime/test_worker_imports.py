"""What the user has a node import once for all its workers (`worker_imports`) is there in each, with its threads."""

from __future__ import annotations

import importlib.util
import sys

import pytest
from running import eventually, one_node

import hpc
from hpc.core.exceptions import SessionLostError, SessionStartError

VARIABLE = "HPC_WORKER_IMPORTS"


@hpc.remote
def imported(name: str) -> bool:
    """Whether a worker has it before anybody asks for it."""
    return name in sys.modules


@hpc.remote(num_cpus=2)
def threads_of_torch() -> int:
    """The number of torch's threads, as its user finds it."""
    import torch

    return torch.get_num_threads()


@hpc.remote
class Drawing:
    """A process of its own that draws random numbers without a seed."""

    def draw(self) -> tuple[float, int]:
        """A number of torch's generator, and the seed that this has."""
        import torch

        return torch.rand(1).item(), torch.initial_seed()


def test_workers_find_what_their_node_has_imported() -> None:
    with one_node({VARIABLE: "colorsys wave"}):
        assert hpc.get([imported.remote("colorsys"), imported.remote("wave")]) == [True, True]
    with one_node():
        assert not hpc.get(imported.remote("colorsys"))


def test_a_module_that_is_not_there_is_an_error_of_the_node(capfd: pytest.CaptureFixture[str]) -> None:
    """Of its start, or of the first call where the node is ready before its zygote. Where that learns of the raylet's
    end first, the session's own words follow it."""
    said: list[str] = []

    def names_it(error: BaseException) -> bool:
        said.extend(capfd.readouterr())
        return "no_such_module" in "".join([str(error), *said])

    try:
        with one_node({VARIABLE: "no_such_module"}):
            with pytest.raises(SessionLostError) as lost:
                hpc.get(imported.remote("colorsys"))
            found: BaseException = lost.value
            eventually(lambda: names_it(found))
    except SessionStartError as error:
        found = error
    assert names_it(found)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch: pip install hpc[train]")
@pytest.mark.parametrize(("said", "count"), [(None, 2), ("3", 3)])
def test_torch_has_the_threads_of_the_lease_or_of_the_user(said: str | None, count: int) -> None:
    with one_node({VARIABLE: "torch", **({"OMP_NUM_THREADS": said} if said else {})}):
        assert hpc.get(imported.remote("torch"))
        assert hpc.get(threads_of_torch.remote()) == count


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch: pip install hpc[train]")
def test_workers_draw_other_random_numbers_of_torch() -> None:
    with one_node({VARIABLE: "torch"}):
        drawing = [Drawing.options(num_cpus=0).remote() for _ in range(3)]
        drawn = hpc.get([one.draw.remote() for one in drawing])
    assert len({number for number, _seed in drawn}) == len({seed for _number, seed in drawn}) == 3
