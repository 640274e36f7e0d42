"""joblib's Parallel, and through it scikit-learn, in processes of the session."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import hpc
from runtime.running import eventually, one_node

joblib = pytest.importorskip("joblib")


@pytest.fixture(autouse=True, scope="module")
def session(no_leaks_of_module):
    with one_node():
        yield


@pytest.fixture(autouse=True)
def backend():
    from hpc.util.joblib import register, register_ray

    assert register_ray is register
    register()


def inverse(value):
    return 1 / value


@pytest.mark.parametrize("name", ["hpc", "ray"])
def test_calls_run_in_processes_of_the_session(name):
    with joblib.parallel_config(backend=name):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(i, 2) for i in range(50)) == [i * i for i in range(50)]
        pids = joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(4))
    assert os.getpid() not in pids
    with joblib.parallel_backend(name, n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(pow)(i, 2) for i in range(3)) == [0, 1, 4]


def test_number_of_jobs():
    with joblib.parallel_config(backend="hpc"):
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.effective_n_jobs(-2) == 1
        assert joblib.effective_n_jobs(7) == 7
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.effective_n_jobs(0)
        here = joblib.Parallel(n_jobs=1)(joblib.delayed(os.getpid)() for _ in range(2))
    assert set(here) == {os.getpid()}


def test_an_exception_ends_the_call_and_the_next_one_works():
    with joblib.parallel_config(backend="hpc", n_jobs=2):
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(inverse)(i) for i in range(4))
        assert joblib.Parallel()(joblib.delayed(inverse)(i) for i in (1, 2)) == [1, 0.5]


def test_large_arrays_are_stored_once(monkeypatch):
    stored = []
    put = hpc.put

    def counted(value):
        stored.append(getattr(value, "nbytes", 0))
        return put(value)

    monkeypatch.setattr(hpc, "put", counted)
    array = np.arange(1 << 18, dtype=np.float64)
    with joblib.parallel_config(backend="hpc", n_jobs=2):
        sums = joblib.Parallel()(joblib.delayed(np.sum)(array) for _ in range(10))
        assert joblib.Parallel()([joblib.delayed(np.sum)(a=array)]) == [array.sum()]
    assert sums == [array.sum()] * 10
    assert stored.count(array.nbytes) == 2  # once for each call


def test_results_as_they_come():
    with joblib.parallel_config(backend="hpc", n_jobs=2):
        results = joblib.Parallel(return_as="generator_unordered")(joblib.delayed(pow)(i, 2) for i in range(9))
        assert sorted(results) == [i * i for i in range(9)]


def test_parallel_inside_parallel():
    def inner(value):
        return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(value, i) for i in range(3)))

    with joblib.parallel_config(backend="hpc", n_jobs=2):
        assert joblib.Parallel()(joblib.delayed(inner)(i) for i in range(3)) == [1, 3, 7]


def test_options_of_the_processes():
    with joblib.parallel_config(backend="ray", n_jobs=2, ray_remote_args={"runtime_env": {"env_vars": {"X_Y": "7"}}}):
        assert joblib.Parallel()(joblib.delayed(os.getenv)("X_Y") for _ in range(2)) == ["7", "7"]


def test_scikit_learn():
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_iris
    from sklearn.model_selection import cross_val_score
    from sklearn.naive_bayes import GaussianNB

    features, labels = load_iris(return_X_y=True)
    alone = cross_val_score(GaussianNB(), features, labels, cv=4)
    with joblib.parallel_config(backend="hpc"):
        spread = cross_val_score(GaussianNB(), features, labels, cv=4, n_jobs=-1)
    assert list(spread) == list(alone)


def test_without_joblib_the_error_says_what_to_do():
    code = "import sys; sys.modules['joblib'] = None\nfrom hpc.util.joblib import register\nregister()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "ImportError: hpc.util.joblib needs joblib" in done.stderr
    assert "pip install joblib" in done.stderr


def test_options_of_the_actors_for_one_call():
    def given():
        return os.environ.get("GIVEN")

    with joblib.parallel_config(backend="hpc", n_jobs=2):
        args = {"runtime_env": {"env_vars": {"GIVEN": "yes"}}}
        assert joblib.Parallel(ray_remote_args=args)(joblib.delayed(given)() for _ in range(3)) == ["yes"] * 3
        assert joblib.Parallel()(joblib.delayed(given)() for _ in range(3)) == [None] * 3


def test_the_pool_ends_with_the_block():
    with joblib.parallel_config(backend="hpc", n_jobs=2):
        pids = set(joblib.Parallel()(joblib.delayed(os.getpid)() for _ in range(4)))
    eventually(lambda: not [pid for pid in pids if os.path.exists(f"/proc/{pid}")])
