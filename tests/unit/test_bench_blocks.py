"""The lines of the bench of blocks: each is measured by the probe, for each size. Nothing here is timed."""

from __future__ import annotations

from pathlib import Path

from bench import blocks

PROBE = Path(__file__).resolve().parents[2] / "bench" / "probes" / "blocks.py"


def test_every_line_is_one_that_the_probe_measures():
    text = PROBE.read_text()
    assert all(f'"{name}": (' in text for name in (*blocks.WHAT, "copy"))
    found = blocks.lines(dict.fromkeys(blocks.SIZES, 1.0))
    assert len({line.key for _, line in found}) == len(found) == len(blocks.SIZES) * len(blocks.WHAT)


def test_every_target_belongs_to_a_line():
    targets = [line.targets[0].at_most for _, line in blocks.lines(dict.fromkeys(blocks.SIZES, 20.2)) if line.targets]
    assert sorted(targets) == sorted([*blocks.TARGETS.values(), *[20 + most for most in blocks.BEYOND_COPY.values()]])
    assert blocks.title(160_000) == "160 kB" and blocks.title(8_000_000) == "8 MB"
