"""A rank's part of a dataset: no row is lost or doubled, whatever has the rows, and batches are arrays or tensors."""

from __future__ import annotations

import itertools
import json

import pytest

from hpc.train import DataConfig
from hpc.train.shards import DatasetShard, check_dataset

np = pytest.importorskip("numpy")


class Squares:
    """A dataset that can only be iterated."""

    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (number * number for number in range(self.count))


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("count", [0, 1, 7, 10])
@pytest.mark.parametrize("make", [lambda n: [i * i for i in range(n)], Squares])
def test_each_row_is_in_one_part(make, count, world):
    shards = [DatasetShard(make(count), rank, world) for rank in range(world)]
    rows = [row for shard in shards for row in shard]
    assert sorted(rows) == [number * number for number in range(count)]
    assert [row for shard in shards for row in shard] == rows  # a second epoch
    sizes = [len(list(shard)) for shard in shards]
    assert max(sizes) - min(sizes) <= 1
    batched = [x for s in shards for batch in s.iter_batches(batch_size=3) for x in batch.tolist()]
    assert sorted(batched) == sorted(rows)
    mixed = [x for s in shards for b in s.iter_batches(local_shuffle_buffer_size=2, local_shuffle_seed=1) for x in b]
    assert sorted(mixed) == sorted(rows)


def test_a_part_has_a_length_and_rows_by_index():
    shard = DatasetShard("abcdefg", 1, 3)
    assert (len(shard), shard[0], shard[-1], list(shard)) == (2, "b", "e", ["b", "e"])
    with pytest.raises(IndexError):
        shard[2]
    with pytest.raises(TypeError, match="no length"):
        len(DatasetShard(Squares(3), 0, 1))
    with pytest.raises(TypeError, match="iterate"):
        DatasetShard(Squares(3), 0, 1)[0]


def test_batches():
    rows = [{"x": i, "name": f"n{i}", "raw": b"\0", "v": np.zeros((2,), "f4")} for i in range(5)]
    first, last = DatasetShard(rows, 0, 1).iter_batches(batch_size=3)
    assert first["x"].tolist() == [0, 1, 2]
    assert first["name"].tolist() == ["n0", "n1", "n2"]
    assert first["raw"].tolist() == [b"\0"] * 3
    assert (first["v"].shape, first["v"].dtype) == ((3, 2), np.float32)
    assert last["x"].tolist() == [3, 4]
    assert len(list(DatasetShard(rows, 0, 1).iter_batches(batch_size=3, drop_last=True))) == 1
    (whole,) = DatasetShard([(1, [1]), (2, [1, 2])], 0, 1).iter_batches(batch_size=None)
    assert whole[0].tolist() == [1, 2]
    assert [list(one) for one in whole[1]] == [[1], [1, 2]]
    assert next(DatasetShard(rows, 0, 1).iter_batches(batch_size=2, batch_format=None)) == rows[:2]


@pytest.mark.torch
def test_batches_of_tensors_and_torch_datasets():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.arange(5.0), torch.arange(5))
    shard = DatasetShard(data, 1, 2)
    (batch,) = shard.iter_torch_batches(device="cpu")
    assert [one.tolist() for one in batch] == [[1.0, 3.0], [1, 3]]
    assert [one.tolist() for one in next(iter(torch.utils.data.DataLoader(shard, batch_size=2)))] == [
        [1.0, 3.0],
        [1, 3],
    ]
    rows = DatasetShard([{"x": 1}, {"x": 2}], 0, 1)
    (batch,) = rows.iter_torch_batches(device="cpu", dtypes={"x": torch.float16})
    assert batch["x"].dtype == torch.float16
    (batch,) = rows.iter_torch_batches(device="cpu", collate_fn=lambda arrays: arrays["x"].sum())
    assert batch == 3
    with pytest.raises(TypeError, match="collate_fn"):
        list(DatasetShard(["a"], 0, 1).iter_torch_batches(device="cpu"))


def test_other_formats():
    arrow = pytest.importorskip("pyarrow")
    (table,) = DatasetShard([{"x": 1}, {"x": 2}], 0, 1).iter_batches(batch_format="pyarrow")
    assert table == arrow.table({"x": [1, 2]})
    with pytest.raises(TypeError, match="dicts, not int"):
        list(DatasetShard([1], 0, 1).iter_batches(batch_format="pyarrow"))


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: check_dataset("d", iter([1])), TypeError, "iterator, which can be read once"),
        (lambda: check_dataset("d", {"x": [1]}), TypeError, r"datasets\['d'\] is a dict: a dataset has rows"),
        (lambda: check_dataset("d", 5), TypeError, "neither be iterated nor indexed"),
        (lambda: DataConfig(5), TypeError, "datasets_to_split"),
        (lambda: DataConfig(["x"]).split(["y"]), ValueError, "the datasets are"),
        (lambda: DataConfig(execution_options=object()), TypeError, "execution_options"),
        (lambda: DataConfig(shuffle_window=0), ValueError, "shuffle_window"),
        (lambda: DatasetShard([1], 0, 1).iter_batches(batch_size=0), ValueError, "batch_size"),
        (lambda: DatasetShard([1], 0, 1).iter_batches(batch_format="rows"), ValueError, "batch_format"),
        (lambda: DatasetShard([1], 0, 1).iter_torch_batches(dtypes=1, collate_fn=len), ValueError, "collate_fn"),
    ],
)
def test_what_is_no_dataset_is_said(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("make", [lambda n: [i * i for i in range(n)], Squares], ids=["sized", "iterable"])
@pytest.mark.parametrize(("before", "after", "steps"), [(2, 2, 2), (3, 2, 1), (2, 3, 2), (1, 2, 4), (2, 2, 6)])
def test_an_epoch_goes_on_in_its_middle_with_any_number_of_ranks(make, before, after, steps):
    """Each of the first ranks takes so many batches of two rows. Then others go on to the end of the third epoch."""
    data = make(24)
    seen, state = [], {}
    for rank in range(before):
        shard = DatasetShard(data, rank, before)
        batches = (batch for _ in shard.epochs(3) for batch in shard.iter_batches(batch_size=2))
        seen += [int(row) for batch in itertools.islice(batches, steps) for row in batch]
        state = shard.state_dict()
    for rank in range(after):
        shard = DatasetShard(data, rank, after)
        shard.load_state_dict(json.loads(json.dumps(state)))
        assert shard.state_dict() == state, "before the first row"
        seen += [row for _ in shard.epochs(3) for row in shard.iter_rows()]
        assert shard.epoch == 3
    assert sorted(seen) == sorted(3 * [i * i for i in range(24)])


def test_rows_that_are_drawn_at_random_have_no_place_to_go_on_from():
    shard = DatasetShard(list(range(9)), 0, 1)
    batches = shard.iter_batches(batch_size=3, local_shuffle_buffer_size=4)
    next(batches)
    with pytest.raises(ValueError, match="cannot go on in its middle"):
        shard.state_dict()
    assert len(list(batches)) == 2
    assert shard.state_dict() == {"epoch": 1, "rows": 0}


def test_an_epoch_that_is_left_early_is_said():
    shard = DatasetShard([1, 2, 3], 0, 1)
    epochs = shard.epochs(2)
    assert next(epochs) == 0
    next(shard.iter_rows())
    with pytest.raises(RuntimeError, match="epoch 0 ended before its rows did"):
        next(epochs)
