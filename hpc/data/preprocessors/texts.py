"""Texts: their words, and vectors of how often words are in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from hpc.data.aggregate import AggregateFnV2
from hpc.data.block import tensor
from hpc.data.block.codes import whole
from hpc.data.preprocessor import Preprocessor, aggregated, column_of, outputs, with_column
from hpc.data.preprocessors.encoders import counts_of
from hpc.data.preprocessors.vectors import bucket

Tokens = Callable[[str], list[str]]


def simple_split_tokenizer(value: str) -> list[str]:
    """The parts of a text between single spaces."""
    return value.split(" ")


def tokens_of(column: pa.ChunkedArray, tokenize: Tokens) -> pa.Array:
    """The list of tokens of each text; null for null."""
    texts = whole(column)
    if tokenize is simple_split_tokenizer:
        return pc.split_pattern(texts.cast(pa.string()), " ")
    found = [None if text is None else list(tokenize(text)) for text in texts.to_pylist()]
    return pa.array(found, pa.list_(pa.string())) if not any(found) else pa.array(found)


class _OfTexts(Preprocessor):
    """Takes texts apart."""

    columns: list[str]

    def _take(self, columns: list[str], tokenize: Tokens | None, output_columns: list[str] | None) -> None:
        self.columns = list(columns)
        self.tokenization_fn = tokenize or simple_split_tokenizer
        self.output_columns = outputs(columns, output_columns)


class Tokenizer(_OfTexts):
    """Each text becomes the list of its tokens: by default the parts between spaces. Null stays null."""

    _is_fittable = False
    _shown = ("columns", "tokenization_fn", "output_columns")

    def __init__(
        self, columns: list[str], tokenization_fn: Tokens | None = None, output_columns: list[str] | None = None
    ) -> None:
        self._take(columns, tokenization_fn, output_columns)

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        for column, output in zip(self.columns, self.output_columns):
            table = with_column(table, output, tokens_of(column_of(table, column), self.tokenization_fn))
        return table


class HashingVectorizer(_OfTexts):
    """Each text becomes a vector (int64): how many of its tokens have each hash below ``num_features``."""

    _is_fittable = False
    _shown = ("columns", "num_features", "tokenization_fn", "output_columns")

    def __init__(
        self,
        columns: list[str],
        num_features: int,
        tokenization_fn: Tokens | None = None,
        *,
        output_columns: list[str] | None = None,
    ) -> None:
        self.num_features = num_features
        self._take(columns, tokenization_fn, output_columns)

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        hashed = lru_cache(1 << 16)(lambda token: bucket(token, self.num_features))
        for column, output in zip(self.columns, self.output_columns):
            lists = tokens_of(column_of(table, column), self.tokenization_fn)
            rows = np.repeat(np.arange(len(lists)), np.asarray(pc.fill_null(pc.list_value_length(lists), 0)))
            encoded = lists.flatten().dictionary_encode()
            places = np.array([hashed(token) for token in encoded.dictionary.to_pylist()], np.int64)
            flat = rows * self.num_features + places[np.asarray(encoded.indices)]
            counts = np.bincount(flat, minlength=len(lists) * self.num_features)
            found = tensor.from_numpy(counts.reshape(len(lists), self.num_features))
            table = with_column(table, output, found)
        return table


class _TokenCounts(AggregateFnV2):
    """How often each token is in a column."""

    def __init__(self, column: str, tokenize: Tokens) -> None:
        super().__init__(f"token_counts({column})", dict, on=column, ignore_nulls=True)
        self._tokenize = tokenize

    def aggregate_block(self, block: pa.Table) -> dict[str, int]:
        tokens = tokens_of(block.column(str(self.get_target_column())), self._tokenize).flatten()
        counted = tokens.value_counts()
        return dict(zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist()))

    def combine(self, current_accumulator: dict[str, int], new: dict[str, int]) -> dict[str, int]:
        for token, count in new.items():
            current_accumulator[token] = current_accumulator.get(token, 0) + count
        return current_accumulator

    def finalize(self, accumulator: dict[str, int]) -> Any:
        return [{"token": token, "count": count} for token, count in accumulator.items()]


class CountVectorizer(_OfTexts):
    """Each text becomes a vector (int64) of how often each known token is in it, the most frequent token first.

    max_features: only so many tokens."""

    _shown = ("columns", "tokenization_fn", "max_features", "output_columns")

    def __init__(
        self,
        columns: list[str],
        tokenization_fn: Tokens | None = None,
        max_features: int | None = None,
        *,
        output_columns: list[str] | None = None,
    ) -> None:
        self.max_features = max_features
        self._take(columns, tokenization_fn, output_columns)

    def _fit(self, ds: Any) -> None:
        found = aggregated(ds, *(_TokenCounts(column, self.tokenization_fn) for column in self.columns))
        self.stats_ = {}
        for column in self.columns:
            pairs = [(one["token"], one["count"]) for one in found[f"token_counts({column})"] or ()]
            # Of tokens that are as frequent, the one that comes first in the dataset.
            pairs.sort(key=lambda pair: -pair[1])
            self.stats_[f"token_counts({column})"] = Counter(dict(pairs[: self.max_features]))

    def _transform_arrow(self, table: pa.Table) -> pa.Table:
        assert self.stats_ is not None
        for column, output in zip(self.columns, self.output_columns):
            known = {token: number for number, token in enumerate(self.stats_[f"token_counts({column})"])}
            lists = tokens_of(column_of(table, column), self.tokenization_fn)
            table = with_column(table, output, counts_of(pa.chunked_array([lists]), known, np.int64))
        return table
