"""What processes import for datasets, and what they do without."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from hpc.data.block.flat import distinct
from hpc.data.exec.warm import MODULES


@pytest.mark.parametrize("values", [[], [3], [3, 1, 3, 3, -2, 1], list(range(50, 0, -1))])
def test_each_of_some_integers_is_there_once(values):
    found = distinct(np.array(values, np.int64))
    assert found.tolist() == sorted(set(values))


def test_neither_pandas_nor_masked_arrays_come_with_what_queries_need():
    program = (
        f"import importlib, sys; [importlib.import_module(name) for name in {('hpc.data', *MODULES)}];"
        "print([name for name in ('pandas', 'numpy.ma', 'pyarrow.dataset') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
