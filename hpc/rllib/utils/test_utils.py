"""What programs that test themselves use: a comparison of nested values, and the parts of RLlib's example scripts."""

from __future__ import annotations

from typing import Any

import numpy as np


def check(
    x: Any,
    y: Any,
    decimals: int = 5,
    atol: float | None = None,
    rtol: float | None = None,
    false: bool = False,
) -> None:
    """Raise AssertionError where x and y differ: nested dicts, lists, arrays, tensors, numbers.

    decimals: numbers are equal to so many; atol, rtol: as in numpy, in their place. false: where they are equal.
    """
    try:
        _compare(x, y, "", decimals, atol, rtol)
    except AssertionError:
        if false:
            return
        raise
    if false:
        raise AssertionError(f"{x!r} is equal to {y!r}")


def _compare(x: Any, y: Any, where: str, decimals: int, atol: float | None, rtol: float | None) -> None:
    rest = (decimals, atol, rtol)
    if isinstance(x, dict):
        assert isinstance(y, dict), f"{where or 'value'}: {y!r} is no dict"
        assert x.keys() == y.keys(), f"{where or 'value'}: the keys {sorted(map(str, x))} and {sorted(map(str, y))}"
        for key in x:
            _compare(x[key], y[key], f"{where}[{key!r}]", *rest)
    elif isinstance(x, (tuple, list)):
        assert len(x) == len(y), f"{where or 'value'}: {len(x)} and {len(y)} items"
        for index, (one, other) in enumerate(zip(x, y)):
            _compare(one, other, f"{where}[{index}]", *rest)
    else:
        _compare_leaves(_array(x), _array(y), where, *rest)


def _compare_leaves(x: Any, y: Any, where: str, decimals: int, atol: float | None, rtol: float | None) -> None:
    kinds = {np.asarray(x).dtype.kind, np.asarray(y).dtype.kind}
    if kinds & set("OUS") or kinds == {"b"}:
        assert np.array_equal(x, y), f"{where or 'value'}: {x!r} is not {y!r}"
    elif atol is None and rtol is None:
        np.testing.assert_almost_equal(x, y, decimal=decimals, err_msg=where)
    else:
        np.testing.assert_allclose(x, y, atol=atol or 0.0, rtol=1e-7 if rtol is None else rtol, err_msg=where)


def _array(value: Any) -> Any:
    return value.detach().cpu().numpy() if hasattr(value, "detach") else value


def __getattr__(name: str) -> Any:
    if name in ("add_rllib_example_script_args", "run_rllib_example_script_experiment", "should_stop"):
        from hpc.rllib.examples import utils

        return getattr(utils, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
