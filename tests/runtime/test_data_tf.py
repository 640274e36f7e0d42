"""Batches of TensorFlow: tensors of each kind of column, and a dataset that a model of Keras could be fitted with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="hpc.data needs pyarrow")
tf = pytest.importorskip("tensorflow", reason="TensorFlow is not installed: pip install tensorflow")

from hpc import data  # noqa: E402
from hpc.data.block import build  # noqa: E402
from hpc.data.consume import tf as tensors  # noqa: E402
from runtime.running import one_node  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def session() -> Iterator[None]:
    with one_node(num_cpus=2):
        data.DataContext.get_current().enable_progress_bars = False
        yield


def rows():
    images = np.arange(60, dtype=np.float32).reshape(20, 3, 1)
    return data.from_items(
        [{"image": images[i], "label": i % 3, "text": f"t{i}", "tokens": list(range(i))} for i in range(20)]
    )


def test_batches_are_tensors_and_cells_of_different_lengths_are_ragged_ones():
    first, *_, last = rows().iter_tf_batches(batch_size=8, dtypes={"label": tf.float16})
    assert first["image"].shape == (8, 3, 1) and first["image"].dtype == tf.float32
    assert first["label"].dtype == tf.float16 and first["text"].numpy().tolist()[:2] == [b"t0", b"t1"]
    assert isinstance(first["tokens"], tf.RaggedTensor) and first["tokens"][5].numpy().tolist() == [0, 1, 2, 3, 4]
    assert last["label"].shape == (4,)
    with pytest.raises(KeyError, match="no_column"):
        next(iter(rows().iter_tf_batches(dtypes={"no_column": tf.int8})))


def test_a_dataset_of_tensorflow_has_features_and_labels_and_is_iterated_again():
    made = rows().to_tf("image", "label", batch_size=8)
    assert made.element_spec[0].shape.as_list() == [None, 3, 1]
    for _ in range(2):
        parts = [(features.numpy(), labels.numpy()) for features, labels in made]
        assert [len(labels) for _, labels in parts] == [8, 8, 4]
        assert np.concatenate([features for features, _ in parts]).ravel().tolist() == [float(i) for i in range(60)]
    features, labels = next(iter(rows().to_tf(["image", "text"], ["label"], batch_size=5, drop_last=True)))
    assert set(features) == {"image", "text"} and labels["label"].numpy().tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="no column"):
        rows().to_tf("picture", "label")


def test_a_rank_of_a_split_fits_a_model():
    (mine,) = data.range(64).map(lambda row: {"x": np.array([row["id"] / 64]), "y": row["id"] / 32}).streaming_split(1)
    model = tf.keras.Sequential([tf.keras.layers.Input((1,)), tf.keras.layers.Dense(1)])
    model.compile(optimizer=tf.keras.optimizers.SGD(0.3), loss="mse")
    history = model.fit(mine.to_tf("x", "y", batch_size=16), epochs=30, verbose=0)
    assert history.history["loss"][-1] < 0.02 < history.history["loss"][0]


def test_a_column_without_a_type_of_tensorflow_names_it():
    schema = build.table({"when": np.array(["2026-01-01"], dtype="datetime64[us]")}, "f").schema
    with pytest.raises(ValueError, match="'when' is of timestamp"):
        tensors.specs_of(schema, "when")
