"""Progress in a notebook: one output of the cell, drawn again in its place, by the kernel that Jupyter starts."""

from __future__ import annotations

import pytest

pytest.importorskip("ipykernel")
manager = pytest.importorskip("jupyter_client.manager")

CELL = """
import time
import hpc
hpc.init(num_cpus=2)
hpc.data.range(8, override_num_blocks=8).map(lambda row: (time.sleep(0.5), row)[1]).take_all()
hpc.shutdown()
"""


def test_the_lines_of_a_run_are_one_output_of_the_cell_and_nothing_is_left_of_them():
    kernel, client = manager.start_new_kernel(kernel_name="python3", startup_timeout=60)
    shown: list[tuple[str, str, str]] = []
    told: list[str] = []

    def hear(message):
        kind, content = message["msg_type"], message["content"]
        if kind in ("display_data", "update_display_data"):
            shown.append((kind, content["transient"]["display_id"], content["data"]["text/plain"]))
        elif kind in ("stream", "error"):
            told.append(str(content.get("text", content)))

    try:
        reply = client.execute_interactive(CELL, timeout=90, output_hook=hear)
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", told
    kinds, idents, texts = zip(*shown)
    assert kinds[0] == "display_data" and set(kinds[1:]) == {"update_display_data"} and len(set(idents)) == 1
    assert texts[0].startswith("Dataset Map(<lambda>)  [") and texts[-1] == ""
    assert any("done after" in text for text in told), told
