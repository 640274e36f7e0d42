"""Methods that call a function of the user's on rows or batches: map, flat_map, filter, map_batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from hpc.data.compute import ComputeStrategy, strategy_of
from hpc.data.expr.nodes import Expr
from hpc.data.expr.parse import parse
from hpc.data.methods import staging
from hpc.data.plan import nodes
from hpc.data.planned import D
from hpc.data.transform import maps

Concurrency = int | tuple[int, int] | tuple[int, int, int] | None


def map(
    self: D,
    fn: Callable[..., dict[str, Any]] | type,
    *,
    compute: ComputeStrategy | None = None,
    fn_args: Iterable[Any] | None = None,
    fn_kwargs: dict[str, Any] | None = None,
    fn_constructor_args: Iterable[Any] | None = None,
    fn_constructor_kwargs: dict[str, Any] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: Concurrency = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
    **ray_remote_args: Any,
) -> D:
    """Each row becomes the row (a dict) that a function returns for it.

    ``fn``: a function, which runs in tasks, or a class with ``__call__``, which runs on a pool of actors: each makes
    one object of it. Raises ValueError for arguments that do not go together."""
    return _applied(**locals(), method="map", make=maps.MapRows)


def flat_map(
    self: D,
    fn: Callable[..., Iterable[dict[str, Any]]] | type,
    *,
    compute: ComputeStrategy | None = None,
    fn_args: Iterable[Any] | None = None,
    fn_kwargs: dict[str, Any] | None = None,
    fn_constructor_args: Iterable[Any] | None = None,
    fn_constructor_kwargs: dict[str, Any] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: Concurrency = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
    **ray_remote_args: Any,
) -> D:
    """Each row becomes the rows (a list of dicts, or a generator of them) that a function returns for it."""
    return _applied(**locals(), method="flat_map", make=maps.FlatMap)


def filter(
    self: D,
    fn: Callable[..., bool] | type | None = None,
    expr: str | Expr | None = None,
    *,
    compute: ComputeStrategy | None = None,
    fn_args: Iterable[Any] | None = None,
    fn_kwargs: dict[str, Any] | None = None,
    fn_constructor_args: Iterable[Any] | None = None,
    fn_constructor_kwargs: dict[str, Any] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: Concurrency = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
    **ray_remote_args: Any,
) -> D:
    """The rows for which a function, or an expression, is true.

    An expression is evaluated on whole columns, and readers of files leave out what it leaves out."""
    given = dict(locals())
    if (fn is None) == (expr is None):
        raise ValueError("Exactly one of 'fn' or 'expr' must be provided.")
    if expr is None:
        del given["expr"]
        return _applied(**given, method="filter", make=maps.FilterRows)
    if any(one is not None for one in (fn_args, fn_kwargs, fn_constructor_args, fn_constructor_kwargs)):
        raise ValueError(
            "when 'expr' is used, 'fn_args/fn_kwargs' or 'fn_constructor_args/fn_constructor_kwargs' cannot be used."
        )
    strategy = strategy_of(filter, compute, concurrency)
    options = _options(given, staging.pool(strategy)[1])
    return self.derived(nodes.Filter(self.plan, _expression(expr), options))


def _expression(expr: Any) -> Expr:
    """An expression, also of its text."""
    if isinstance(expr, str):
        return parse(expr)
    if not isinstance(expr, Expr):
        raise TypeError(f"expr must be an expression, as in col('x') > 1, not {expr!r}")
    return expr


def map_batches(
    self: D,
    fn: Callable[..., Any] | type,
    *,
    batch_size: int | Literal["auto"] | None = None,
    compute: ComputeStrategy | None = None,
    batch_format: str | None = "default",
    zero_copy_batch: bool = True,
    fn_args: Iterable[Any] | None = None,
    fn_kwargs: dict[str, Any] | None = None,
    fn_constructor_args: Iterable[Any] | None = None,
    fn_constructor_kwargs: dict[str, Any] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    concurrency: Concurrency = None,
    udf_modifying_row_count: bool = True,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    ray_remote_args_fn: Callable[[], dict[str, Any]] | None = None,
    **ray_remote_args: Any,
) -> D:
    """Each batch becomes the batch, or the batches, that a function returns or yields for it.

    * ``batch_size``: rows of a batch; None: a block; "auto": by the size of rows.
    * ``batch_format``: "default" and "numpy" (a dict of arrays), "pandas", "pyarrow", "polars", None (a table).
    * ``zero_copy_batch``: arrays may be views, which cannot be written to.
    * ``udf_modifying_row_count``: False says that a batch has as many rows as what it was made of.
    * ``repeatable=False`` (beside options of tasks): it may give other rows when its worker has died and it runs again.
    """
    given = dict(locals())
    staging.check_format(batch_format)
    if isinstance(batch_size, int) and batch_size < 1:
        raise ValueError("Batch size can't be negative or 0")
    if batch_size is not None and batch_size != "auto" and not isinstance(batch_size, int):
        raise TypeError(f"batch_size must be a number of rows, 'auto' or None, not {batch_size!r}")
    if num_gpus and not isinstance(batch_size, int):
        raise ValueError(
            "You must provide `batch_size` to `map_batches` when requesting GPUs: the largest that they hold."
        )
    special = ("batch_size", "batch_format", "zero_copy_batch", "udf_modifying_row_count")
    rest = {word: value for word, value in given.items() if word not in special}
    return _applied(
        **rest,
        method="map_batches",
        make=maps.MapBatches,
        bundle_rows=batch_size if isinstance(batch_size, int) else None,
        more={
            "batch_size": batch_size,
            "batch_format": batch_format,
            "zero_copy_batch": zero_copy_batch,
            "udf_modifying_row_count": udf_modifying_row_count,
        },
    )


def _applied(
    self: D,
    fn: Any,
    method: str,
    make: Any,
    compute: Any,
    concurrency: Any,
    fn_args: Any,
    fn_kwargs: Any,
    fn_constructor_args: Any,
    fn_constructor_kwargs: Any,
    more: Mapping[str, Any] | None = None,
    bundle_rows: int | None = None,
    **given: Any,
) -> D:
    """The dataset with a function of the user's on top."""
    staging.check_function(fn, method, fn_constructor_args, fn_constructor_kwargs)
    repeatable = given["ray_remote_args"].pop("repeatable", True)
    if not isinstance(repeatable, bool):
        raise TypeError(f"repeatable is True or False, not {repeatable!r}")
    strategy = strategy_of(fn, compute, concurrency)
    pool, most = staging.pool(strategy)
    transform = make(
        fn,
        fn_args=fn_args,
        fn_kwargs=fn_kwargs,
        fn_constructor_args=fn_constructor_args,
        fn_constructor_kwargs=fn_constructor_kwargs,
        parallel=getattr(strategy, "enable_true_multi_threading", False),
        **(more or {}),
    )
    return self.derived(nodes.Apply(self.plan, transform, pool, _options(given, most), bundle_rows, repeatable))


def _options(given: Mapping[str, Any], most: int | None) -> nodes.Options:
    named = {word: given[word] for word in staging.NAMED}
    return staging.options(most, given["ray_remote_args_fn"], remote=given["ray_remote_args"], **named)
