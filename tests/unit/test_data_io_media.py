"""Audio, video and MCAP files, by the packages that decode them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from io_reading import rows, source, tables, written

from hpc.data.block import batch
from hpc.data.io.errors import ReadError
from hpc.data.io.media_files import AudioFormat, McapFormat, TimeRange, VideoFormat


def test_audio_files_are_rows_of_channels_and_samples(tmp_path):
    soundfile = pytest.importorskip("soundfile", reason="needs soundfile")
    samples = np.linspace(-0.5, 0.5, 200, dtype="float32").reshape(100, 2)
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "b.flac", samples[:50, 0], 16000)
    first, second = rows(source(AudioFormat(), str(tmp_path)))
    assert np.array_equal(first["amplitude"], samples.T)
    assert (first["sample_rate"], second["sample_rate"], second["amplitude"].shape) == (8000, 16000, (1, 50))
    bad = written(tmp_path / "bad" / "a.wav", b"RIFFno")
    with pytest.raises(ReadError, match=f"{bad}: this is no audio"):
        rows(source(AudioFormat(), str(bad)))


def frames(form, folder):
    return [row for table in tables(source(form, str(folder))) for row in batch.rows(table)]


def test_videos_are_rows_of_frames(tmp_path):
    av = pytest.importorskip("av", reason="needs av")
    with av.open(str(tmp_path / "a.mp4"), "w") as video:
        stream = video.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for index in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32, 3), index * 20, np.uint8), format="rgb24")
            video.mux(stream.encode(frame))
        video.mux(stream.encode())
    found = frames(VideoFormat(), tmp_path)
    assert [row["frame_index"] for row in found] == list(range(10))
    assert all(np.shape(row["frame"]) == (16, 32, 3) for row in found)
    assert abs(int(np.mean(found[5]["frame"])) - 100) < 10
    few = frames(VideoFormat(True, 5, (8, 8)), tmp_path)
    assert [row["frame_index"] for row in few] == [0, 2, 4, 6, 8]
    assert np.shape(few[1]["frame"]) == (8, 8, 3)
    assert np.allclose(few[1]["frame_timestamp"], [0.2, 0.3])
    bad = written(tmp_path / "bad" / "a.mp4", b"no video at all")
    with pytest.raises(ReadError, match=f"{bad}: this is no video"):
        rows(source(VideoFormat(), str(bad)))
    with pytest.raises(ValueError, match="fps"):
        VideoFormat(fps=0)


def test_mcap_files_are_rows_of_messages(tmp_path):
    writer = pytest.importorskip("mcap.writer", reason="needs mcap")
    path = tmp_path / "a.mcap"
    with open(path, "wb") as file:
        log = writer.Writer(file)
        log.start()
        schema = log.register_schema("Point", "jsonschema", b"{}")
        first = log.register_channel("/p", "json", schema)
        for time in (30, 10, 20):
            log.add_message(first, time, json.dumps({"x": time}).encode(), time, time)
        log.finish()
    found = rows(source(McapFormat(), str(path)))
    assert [row["data"] for row in found] == [{"x": 10}, {"x": 20}, {"x": 30}]
    assert (found[0]["topic"], found[0]["schema_name"]) == ("/p", "Point")
    assert [row["log_time"] for row in rows(source(McapFormat(times=TimeRange(10, 30)), str(path)))] == [10, 20]
    assert rows(source(McapFormat(topics=("/other",)), str(path))) == []
    assert rows(source(McapFormat(kinds=frozenset(["Other"])), str(path))) == []
    assert "schema_name" not in rows(source(McapFormat(metadata=False), str(path)))[0]
    written(tmp_path / "bad" / "a.mcap", path.read_bytes()[:100])
    with pytest.raises(ReadError, match=r"bad/a.mcap: this is no whole MCAP file"):
        rows(source(McapFormat(), str(tmp_path / "bad")))
    with pytest.raises(ValueError, match="from 5 to 5"):
        TimeRange(5, 5)
