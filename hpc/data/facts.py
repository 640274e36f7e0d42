"""What a plan says before it runs: columns, number of rows, files. None where only a run can tell."""

from __future__ import annotations

import pyarrow as pa

from hpc.data.block import promote
from hpc.data.plan import nodes
from hpc.data.plan.nodes import Node
from hpc.data.transform.maps import FilterRows
from hpc.data.transform.sample import RandomSample

#: Nodes that give the rows of their input, all of them, with the same columns.
_SAME_ROWS = (nodes.Resize, nodes.RandomizeBlocks)


def read_schema(serialized: bytes) -> pa.Schema | None:
    """A schema from its bytes; None for no bytes, and for one without a column."""
    schema = pa.ipc.read_schema(pa.py_buffer(serialized)) if serialized else None
    return schema if schema is not None and schema.names else None


def schema_of(node: Node) -> pa.Schema | None:
    """The columns of the rows that a plan gives."""
    if isinstance(node, nodes.Read):
        return node.source.schema()
    if isinstance(node, nodes.Blocks):
        found = [read_schema(handle.meta.schema) for handle in node.blocks]
        known = [schema for schema in found if schema is not None]
        return promote.unify(known) if known else None
    below = [schema_of(one) for one in node.inputs]
    if not below or any(schema is None for schema in below):
        return None
    given = [schema for schema in below if schema is not None]
    if isinstance(node, (*_SAME_ROWS, nodes.Limit, nodes.Skip, nodes.Filter)):
        return given[0]
    if isinstance(node, (nodes.Union, nodes.Mix)):
        return promote.unify(given)
    if isinstance(node, nodes.Zip):
        return _zipped(given)
    if isinstance(node, nodes.Exchanged):
        known_to = getattr(node.exchange, "schema_of", None)
        return known_to(given) if known_to is not None else None
    return _of_columns(node, given[0])


def without_filters(node: Node) -> Node:
    """A plan that gives the same columns, whatever rows functions leave out: for a run that gave no row at all."""
    inputs = tuple(without_filters(one) for one in node.inputs)
    if isinstance(node, nodes.Apply) and isinstance(node.transform, (FilterRows, RandomSample)):
        return inputs[0]
    return node.with_inputs(inputs) if inputs else node


def _of_columns(node: Node, schema: pa.Schema) -> pa.Schema | None:
    if isinstance(node, nodes.Select):
        here = set(node.columns) <= set(schema.names)
        return pa.schema([schema.field(name) for name in node.columns]) if here else None
    if isinstance(node, nodes.Drop):
        return pa.schema([field for field in schema if field.name not in node.columns])
    if isinstance(node, nodes.Rename):
        names = dict(node.names)
        return pa.schema([field.with_name(names.get(field.name, field.name)) for field in schema])
    if isinstance(node, nodes.WithColumns) and all(expr.repeatable for _, expr in node.columns):
        empty = schema.empty_table()
        kinds = {field.name: field.type for field in schema}
        try:
            kinds.update((name, expr.evaluate(empty).type) for name, expr in node.columns)
        except Exception:
            return None  # what is wrong with it, the run says
        return pa.schema(list(kinds.items()))
    return None


def _zipped(schemas: list[pa.Schema]) -> pa.Schema:
    fields: dict[str, pa.DataType] = {}
    for schema in schemas:
        for field in schema:
            name, number = field.name, 1
            while name in fields:
                name, number = f"{field.name}_{number}", number + 1
            fields[name] = field.type
    return pa.schema(list(fields.items()))


def rows_of(node: Node) -> int | None:
    """The number of rows that a plan gives."""
    if isinstance(node, nodes.Read):
        return node.source.count()
    if isinstance(node, nodes.Blocks):
        return sum(handle.meta.rows for handle in node.blocks)
    if isinstance(node, nodes.Limit):
        below = rows_of(node.input)
        return 0 if node.rows <= 0 else None if below is None else min(node.rows, below)
    if isinstance(node, nodes.Skip):
        below = rows_of(node.input)
        return None if below is None else max(0, below - node.rows)
    same = (*_SAME_ROWS, nodes.Select, nodes.Drop, nodes.Rename)
    if isinstance(node, same) or (isinstance(node, nodes.Exchanged) and keeps_rows(node)):
        return rows_of(node.inputs[0])
    if isinstance(node, nodes.WithColumns) and all(expr.repeatable for _, expr in node.columns):
        return rows_of(node.input)
    if isinstance(node, nodes.Union):
        each = [rows_of(one) for one in node.nodes]
        return None if any(rows is None for rows in each) else sum(rows for rows in each if rows is not None)
    return None


def keeps_rows(node: nodes.Exchanged) -> bool:
    """Whether an exchange gives the rows of its one input, in whichever order."""
    return bool(getattr(node.exchange, "keeps_rows", False))


def files_of(node: Node) -> list[str]:
    """The files that a plan reads, each once."""
    files: dict[str, None] = {}
    for one in nodes.walk(node):
        if isinstance(one, nodes.Read):
            files.update(dict.fromkeys(one.source.files()))
        elif isinstance(one, nodes.Blocks):
            for handle in one.blocks:
                files.update(dict.fromkeys(handle.meta.files))
    return list(files)


def bytes_of(node: Node) -> int | None:
    """The size of what a plan gives, as Arrow tables, as far as it is known or estimated."""
    if isinstance(node, nodes.Read):
        return node.source.estimate().whole_nbytes
    if isinstance(node, nodes.Blocks):
        return sum(handle.meta.nbytes for handle in node.blocks)
    return bytes_of(node.inputs[0]) if isinstance(node, _SAME_ROWS) else None
