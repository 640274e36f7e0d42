"""Datasets as text: a table of their columns and first rows, or their plan where the columns are not known yet."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hpc.data import facts
from hpc.data.block import batch
from hpc.data.block.schema import type_name
from hpc.data.plan import nodes
from hpc.data.plan.explain import step
from hpc.data.plan.nodes import Node

WIDTH = 40
ROWS = 10
HALF = ROWS // 2


def of_rows(schema: pa.Schema, count: int | None, first: pa.Table | None, last: pa.Table | None) -> str:
    """Columns with their types; below them rows, where there are any to show: all, or some of each end."""
    body: list[list[str]] = []
    if first is not None:
        body += _cells(first)
        if last is not None:
            body += [["…"] * len(schema.names), *_cells(last)]
    heads = [[_cut(name), "---", _cut(type_name(kind))] for name, kind in zip(schema.names, schema.types)]
    widths = [max(len(text) for text in (*head, *(row[at] for row in body))) for at, head in enumerate(heads)]
    lines = [f"shape: ({'?' if count is None else count}, {len(heads)})", _rule("╭┬╮", "─", widths)]
    lines += [_line(row, widths) for row in zip(*heads)]
    if body:
        lines += [_rule("╞╪╡", "═", widths), *(_line(row, widths) for row in body)]
    lines.append(_rule("╰┴╯", "─", widths))
    shown = len(body) - (last is not None)
    lines.append(f"(Showing {shown} of {count} rows)" if body else "(Dataset isn't materialized)")
    return "\n".join(lines)


def _cells(table: pa.Table) -> list[list[str]]:
    return [[_cut(str(cell)) for cell in row.values()] for row in batch.rows(table)]


def _cut(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= WIDTH else text[: WIDTH - 1] + "…"


def _rule(corners: str, line: str, widths: Sequence[int]) -> str:
    return corners[0] + corners[1].join(line * (width + 2) for width in widths) + corners[2]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "│ " + " ┆ ".join(text.ljust(width) for text, width in zip(cells, widths)) + " │"


def of_plan(node: Node, name: str | None) -> str:
    """The steps of a plan down to the last dataset whose columns are known, each under the step that it is for."""
    lines: list[str] = []
    for depth in itertools.count():
        indent = "   " * (depth - 1) + "+- " if depth else ""
        at_end = len(node.inputs) != 1 or facts.schema_of(node) is not None
        if at_end and depth:
            lines.append(indent + _known(node, name))
            return "\n".join(lines)
        lines.append(indent + step(node))
        if not node.inputs:
            return lines[0] if len(lines) > 1 else _known(node, name)
        node = node.inputs[0]
    raise AssertionError


def _known(node: Node, name: str | None) -> str:
    schema = None if len(node.inputs) > 1 else facts.schema_of(node)
    count = None if len(node.inputs) > 1 else facts.rows_of(node)
    said = "Unknown schema" if schema is None else _columns(schema)
    named = f"name={name}, " if name is not None else ""
    return f"Dataset({named}num_rows={'?' if count is None else count}, schema={said})"


def _columns(schema: pa.Schema) -> str:
    return "{" + ", ".join(f"{name}: {type_name(kind)}" for name, kind in zip(schema.names, schema.types)) + "}"


def of_nothing(node: nodes.Blocks) -> str:
    """A materialized dataset without columns."""
    blocks = f"num_blocks={len(node.blocks)}, " if node.blocks else ""
    return f"MaterializedDataset({blocks}num_rows={facts.rows_of(node)}, schema=Unknown schema)"


def stats_text(value: Any) -> str:
    """What a run says of itself, for people."""
    return "" if value is None else str(value)
