"""Event files are what TensorBoard reads: their records, numbers, histograms, pictures and hyperparameters."""

from __future__ import annotations

import math
import os
import struct
import zlib

import numpy as np
import pytest
from tune_trials import make_trial, tell

from hpc.tune.callback import CallbackList
from hpc.tune.logger import TBXLoggerCallback, tfevents
from hpc.util import crc32c


def fields(data):
    """A protobuf message as a list of numbers and values."""
    found, place = [], 0

    def varint():
        nonlocal place
        value = shift = 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while place < len(data):
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
        elif kind == 2:
            size = varint()
            value, place = data[place : place + size], place + size
        else:
            form, size = ("<d", 8) if kind == 1 else ("<f", 4)
            (value,), place = struct.unpack(form, data[place : place + size]), place + size
        found.append((key >> 3, value))
    return found


def records(data):
    """The events of a file, with their checksums compared."""
    found, place = [], 0
    while place < len(data):
        (size,) = struct.unpack("<Q", data[place : place + 8])
        event = data[place + 12 : place + 12 + size]
        assert data[place + 8 : place + 12] == struct.pack("<I", crc32c.masked(data[place : place + 8]))
        assert data[place + 12 + size : place + 16 + size] == struct.pack("<I", crc32c.masked(event))
        found.append(dict(fields(event)))
        place += 16 + size
    return found


def values(event):
    """Of a summary, each value's fields by its tag."""
    return {one[1].decode(): one for one in (dict(fields(value)) for _, value in fields(event[5]))}


def test_checksums_are_castagnolis_one_by_one_and_together():
    assert crc32c.crc32c(b"123456789") == 0xE3069283
    assert crc32c.crc32c(b"") == 0
    many = [os.urandom(size % 97) for size in range(300)]
    assert crc32c.of_all(many) == [crc32c.crc32c(one) for one in many]


def test_a_trial_has_its_numbers_by_step_and_its_hyperparameters_at_the_end(tmp_path):
    trial = make_trial(tmp_path)
    trial.evaluated_params = {"lr": 0.25, "depth": np.int64(3), "flag": True, "name": "adam", "space": object()}
    told = CallbackList([TBXLoggerCallback()])
    told.setup()
    reports = [
        {"training_iteration": 1, "loss": 0.5, "eval": {"acc": np.float32(0.75)}, "nan": math.nan, "name": "x"},
        {"training_iteration": 2, "timesteps_total": 128, "loss": 1e300, "done": True, "layers": [1.0, 2.0]},
    ]
    tell(told, trial, reports)
    (path,) = (tmp_path / "trial_0").glob("events.out.tfevents.*")
    first, one, two, *end = records(path.read_bytes())
    assert first[3] == b"brain.Event:2"
    assert one[2] == 1 and values(one)["ray/tune/loss"][2] == 0.5 and values(one)["ray/tune/eval/acc"][2] == 0.75
    assert set(values(one)) == {"ray/tune/loss", "ray/tune/eval/acc"}
    assert two[2] == 128 and values(two)["ray/tune/loss"][2] == math.inf
    assert dict(fields(values(two)["ray/tune/layers"][5]))[3] == 2.0
    assert [next(iter(values(event))) for event in end] == [
        "_hparams_/experiment", "_hparams_/session_start_info", "_hparams_/session_end_info",
    ]  # fmt: skip
    start = values(end[1])["_hparams_/session_start_info"]
    plugin = dict(fields(dict(fields(start[9]))[1]))
    assert plugin[1] == b"hparams"
    given = [dict(fields(value)) for number, value in fields(dict(fields(plugin[2]))[3]) if number == 1]
    assert {one[1].decode(): fields(one[2])[0][1] for one in given} == {
        "lr": 0.25, "depth": 3.0, "flag": 1, "name": b"adam",
    }  # fmt: skip


def test_a_histogram_counts_all_its_numbers():
    numbers = [-2.0, -1e-20, 0.0, 3.0, 3.1, 1e30]
    histogram = fields(dict(fields(dict(fields(tfevents.histogram("h", numbers)))[1]))[5])
    found = dict(histogram)
    assert (found[1], found[2], found[3]) == (-2.0, 1e30, 6.0)
    limits, counts = np.frombuffer(found[6]), np.frombuffer(found[7])
    assert counts.sum() == 6 and len(limits) == len(counts) and (np.diff(limits) > 0).all()
    for wrong in ([], ["a"], [[1], [2, 3]]):
        with pytest.raises((ValueError, TypeError)):
            tfevents.histogram("h", wrong)


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 4, 5), (2, 3, 4, 5)])
def test_arrays_are_pictures(shape):
    pixels = np.linspace(0, 1, math.prod(shape)).reshape(shape)
    picture = dict(fields(dict(fields(dict(fields(tfevents.image("p", pixels)))[1]))[4]))
    width = 5 * (shape[0] if len(shape) == 4 else 1)
    assert (picture[1], picture[2], picture[3]) == (4, width, shape[-3])
    png = picture[4]
    assert png.startswith(b"\x89PNG") and struct.unpack(">II", png[16:24]) == (width, 4)
    size = struct.unpack(">I", png[33:37])[0]
    assert len(zlib.decompress(png[41 : 41 + size])) == 4 * (1 + width * shape[-3])
    with pytest.raises(ValueError, match="channels"):
        tfevents.image("p", np.zeros((2, 3, 3)))


def test_a_value_that_tensorboard_cannot_have_is_told_once(tmp_path, caplog):
    told = CallbackList([TBXLoggerCallback()])
    told.setup()
    trial = make_trial(tmp_path)
    reports = [{"training_iteration": i, "words": ["a"], "video": np.zeros((1, 1, 1, 1, 1)), "x": 1.0} for i in (1, 2)]
    tell(told, trial, reports)
    assert caplog.text.count("TensorBoard does not get ray/tune/words") == 1
    assert caplog.text.count("videos are not written") == 1
    (path,) = (tmp_path / "trial_0").glob("events.out.tfevents.*")
    assert set(values(records(path.read_bytes())[1])) == {"ray/tune/x"}


def test_tensorboard_reads_the_files(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    told = CallbackList([TBXLoggerCallback()])
    told.setup()
    reports = [{"training_iteration": i, "loss": 1 / i, "l": [1, 2, 3], "p": np.zeros((3, 2, 2))} for i in range(1, 60)]
    tell(told, make_trial(tmp_path), reports)
    found = accumulators.EventAccumulator(str(tmp_path / "trial_0"))
    found.Reload()
    assert [(one.step, one.value) for one in found.Scalars("ray/tune/loss")][:2] == [(1, 1.0), (2, 0.5)]
    assert len(found.Scalars("ray/tune/loss")) == 59
    assert found.Histograms("ray/tune/l")[0].histogram_value.num == 3 and found.Images("ray/tune/p")
