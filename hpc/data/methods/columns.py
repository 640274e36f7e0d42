"""Methods that work on whole columns: with_column, add_column, drop, select and rename."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hpc.data import facts
from hpc.data.compute import ComputeStrategy, strategy_of
from hpc.data.expr.nodes import Expr
from hpc.data.expr.special import UnnestExpr
from hpc.data.methods import look, staging
from hpc.data.plan import nodes
from hpc.data.planned import D
from hpc.data.transform import columns as transforms


def with_column(
    self: D,
    column_name: str,
    expr: Expr,
    *,
    compute: ComputeStrategy | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    **ray_remote_args: Any,
) -> D:
    """One more column, or another one under the name of one that is there: what an expression gives for each row."""
    given = dict(locals())
    return _with(self, {column_name: expr}, given)


def with_columns(
    self: D,
    exprs: Mapping[str, Expr] | UnnestExpr | None = None,
    *more_exprs: Mapping[str, Expr] | UnnestExpr,
    compute: ComputeStrategy | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    **ray_remote_args: Any,
) -> D:
    """More columns: dicts of expressions by name, all of which see the columns that are there now.

    ``col("s").unnest()`` gives a column for each field of a column of structs."""
    given = dict(locals())
    named: dict[str, Any] = {}
    for one in (exprs, *more_exprs):
        if isinstance(one, UnnestExpr):
            schema = look.schema(self)
            fields = one.expand_projection(None if schema is None else schema.base_schema)
            named.update((str(field.name), field) for field in fields)
        elif one is not None:
            named.update(one)
    return _with(self, named, given) if named else self.derived(self.plan)


def _with(self: D, named: Mapping[str, Any], given: Mapping[str, Any]) -> D:
    for name, expr in named.items():
        if not isinstance(name, str):
            raise TypeError(f"names of columns are strings, not {name!r}")
        if not isinstance(expr, Expr):
            raise TypeError(f"column {name!r} must be an expression, as in col('x') + 1, not {expr!r}")
    strategy = strategy_of(_with, given["compute"], None)
    options = _options(given, staging.pool(strategy)[1])
    return self.derived(nodes.WithColumns(self.plan, tuple(named.items()), options))


def _options(given: Mapping[str, Any], most: int | None) -> nodes.Options:
    return staging.options(most, remote=given["ray_remote_args"], **{word: given[word] for word in staging.NAMED})


def add_column(
    self: D,
    col: str,
    fn: Callable[[Any], Any],
    *,
    batch_format: str | None = "pandas",
    compute: str | None = None,
    concurrency: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    **ray_remote_args: Any,
) -> D:
    """One more column: what a function returns for each batch, an array or one value for all of its rows."""
    given = dict(locals())
    if batch_format not in ("pandas", "pyarrow", "numpy", "polars"):
        raise ValueError(
            f"batch_format argument must be one of ['pandas', 'pyarrow', 'numpy', 'polars'], got: {batch_format}"
        )
    staging.check_function(fn, "add_column", None, None)
    if not isinstance(col, str):
        raise TypeError(f"names of columns are strings, not {col!r}")
    strategy = strategy_of(fn, compute, concurrency)
    options = _options(given, staging.pool(strategy)[1])
    return self.derived(nodes.Apply(self.plan, transforms.AddColumn(col, fn, batch_format=batch_format), None, options))


def drop_columns(
    self: D,
    cols: list[str],
    *,
    compute: str | None = None,
    concurrency: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    **ray_remote_args: Any,
) -> D:
    """All columns but these. Raises KeyError for one that there is not, where the columns are known before a run."""
    names = _names(cols, "drop_columns")
    schema = facts.schema_of(self.plan)
    missing = [name for name in names if schema is not None and name not in schema.names]
    if missing and schema is not None:
        raise KeyError(f"drop_columns: column(s) not found in dataset schema: {missing}. Available: {schema.names}")
    return self.derived(nodes.Drop(self.plan, names))


def select_columns(
    self: D,
    cols: str | list[str],
    *,
    compute: str | ComputeStrategy | None = None,
    concurrency: int | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    **ray_remote_args: Any,
) -> D:
    """Only these columns, in this order: readers of files that have columns read no others."""
    return self.derived(nodes.Select(self.plan, _names([cols] if isinstance(cols, str) else cols, "select_columns")))


def rename_columns(
    self: D,
    names: list[str] | dict[str, str],
    *,
    concurrency: int | tuple[int, int] | tuple[int, int, int] | None = None,
    num_cpus: float | None = None,
    num_gpus: float | None = None,
    memory: float | None = None,
    label_selector: dict[str, str] | None = None,
    fallback_strategy: list[dict[str, Any]] | None = None,
    max_calls: int | None = None,
    resources: dict[str, float] | None = None,
    accelerator_type: str | None = None,
    runtime_env: dict[str, Any] | None = None,
    **ray_remote_args: Any,
) -> D:
    """Other names: a dict from old to new ones, or new ones for all columns in their order."""
    if not isinstance(names, (list, dict)):
        raise TypeError(f"rename_columns expected names to be either List[str] or Dict[str, str], got {type(names)}.")
    if not names:
        raise ValueError("rename_columns received 'names' with no entries.")
    if isinstance(names, list):
        there = look.columns(self) or []
        new = _names(names, "rename_columns")
        if len(new) != len(there):
            raise ValueError(f"rename_columns requires 'names': {names} length match current schema names: {there}.")
        names = dict(zip(there, new))
    if not all(isinstance(one, str) for pair in names.items() for one in pair):
        raise ValueError("rename_columns requires both keys and values in the 'names' to be strings.")
    if len({*names.values()}) < len(names):
        raise ValueError(f"rename_columns received duplicate values in the 'names': {names}")
    return self.derived(nodes.Rename(self.plan, tuple(names.items())))


def _names(cols: Sequence[str], method: str) -> tuple[str, ...]:
    if isinstance(cols, str) or not isinstance(cols, Sequence):
        raise TypeError(f"{method} takes a list of names of columns, not {cols!r}")
    if not all(isinstance(one, str) for one in cols):
        raise ValueError(f"{method} requires all names of columns to be strings, not {cols}")
    if len({*cols}) < len(cols):
        raise ValueError(f"{method} expected unique column names, got duplicate column names: {list(cols)}")
    return tuple(cols)
