"""Batches as tensors of PyTorch: types, one copy, and what is said of values that no tensor holds."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")
torch = pytest.importorskip("torch", reason="PyTorch is not installed")

from hpc.data.block import build  # noqa: E402
from hpc.data.consume import torch as torch_batches  # noqa: E402
from hpc.data.consume.batches import assemble  # noqa: E402


def batch_of(columns):
    return next(assemble(iter([build.table(columns, "f")]), 100))


@pytest.mark.torch
def test_tensors_have_the_types_of_their_columns_and_their_own_memory():
    kinds = ["int8", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64", "bool"]
    batch = batch_of({kind: np.ones(3, dtype=kind) for kind in kinds} | {"image": np.ones((3, 4, 5), np.uint8)})
    made = torch_batches.collate(batch)
    assert {name: one.dtype for name, one in made.items() if name != "image"} == {
        kind: getattr(torch, kind) for kind in kinds
    }
    assert made["image"].shape == (3, 4, 5)
    made["int64"][0] = 7
    assert batch["int64"][0] == 1


@pytest.mark.torch
def test_dtypes_are_those_of_all_or_of_some_columns():
    batch = batch_of({"i": [1, 2], "f": [1.0, 2.0]})
    assert {one.dtype for one in torch_batches.collate(batch, torch.float16).values()} == {torch.float16}
    assert {one.dtype for one in torch_batches.collate(batch, torch.bfloat16).values()} == {torch.bfloat16}
    some = torch_batches.collate(batch, {"i": torch.int8})
    assert (some["i"].dtype, some["f"].dtype) == (torch.int8, torch.float64)
    with pytest.raises(KeyError, match="dtypes has 'z'"):
        torch_batches.collate(batch, {"z": torch.int8})
    with pytest.raises(TypeError, match="'float33', which is no dtype of torch"):
        torch_batches.collate(batch, "float33")


@pytest.mark.torch
def test_lists_of_one_length_are_tensors_and_other_values_are_refused():
    assert torch_batches.collate(batch_of({"l": [[1, 2], [3, 4]], "n": [1, None]}))["l"].tolist() == [[1, 2], [3, 4]]
    ragged = batch_of({"r": [np.ones(1), np.ones(2)]})
    with pytest.raises(RuntimeError, match="'r' has cells of different shapes"):
        torch_batches.collate(ragged)
    for wrong in ({"s": ["a"]}, {"d": [{1: 2}]}, {"b": [True, None]}, {"t": np.array(["2020-01-01"], "M8[s]")}):
        with pytest.raises(TypeError, match="which no tensor holds"):
            torch_batches.collate(batch_of(wrong))


@pytest.mark.torch
def test_a_column_of_nulls_is_not_a_number():
    made = torch_batches.collate(batch_of({"n": [None, None]}))["n"]
    assert made.dtype == torch.float32 and made.isnan().all()


@pytest.mark.torch
def test_a_batch_moves_to_a_device_as_a_whole():
    from collections import namedtuple

    pair = namedtuple("pair", "a b")
    given = {"a": [torch.ones(1), "text"], "b": (torch.ones(2),), "c": pair(torch.ones(1), 3)}
    moved = torch_batches.to_device(given, "meta")
    assert moved["a"][0].device.type == moved["b"][0].device.type == moved["c"].a.device.type == "meta"
    assert moved["a"][1] == "text" and torch_batches.to_device(given, None) is given


@pytest.mark.torch
def test_features_and_a_label_come_in_the_shapes_of_to_torch():
    batch = batch_of({"i": [1, 2], "f": [1.0, 2.0], "g": np.array([3, 4], np.float32)})
    features, label = torch_batches.features_and_label(batch, "i", None)
    assert features.tolist() == [[1, 3], [2, 4]] and label.tolist() == [[1], [2]]
    features, label = torch_batches.features_and_label(batch, "i", {"q": ["f"], "r": ["f", "g"]}, unsqueeze_label=False)
    assert features["r"].shape == (2, 2) and label.tolist() == [1, 2]
    features, label = torch_batches.features_and_label(batch, None, [["f"], ["g"]], feature_dtypes=torch.float16)
    assert [one.dtype for one in features] == [torch.float16] * 2 and label is None


def test_an_array_that_nobody_else_has_becomes_the_tensor_and_a_view_is_copied():
    whole = np.zeros((4, 8))
    made = torch_batches.collate({"own": whole, "view": whole[:2]})
    assert made["own"].data_ptr() == whole.ctypes.data and made["view"].data_ptr() != whole.ctypes.data
    frozen = np.ones(3)
    frozen.flags.writeable = False
    made = torch_batches.collate({"frozen": frozen})["frozen"]
    made += 1
    assert made.tolist() == [2, 2, 2] and frozen.tolist() == [1, 1, 1]
