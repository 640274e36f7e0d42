"""A connection that was replaced, and lives on at one end: what it still brings harms nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from runtime.test_links import HEARTBEAT, Bed, both_ways


def late_words_of_a_replaced_connection() -> None:
    """The dialing side is cut off and connects anew; then the rest of the old connection arrives, and a reset."""
    bed = Bed()
    one, two = bed.peer(1), bed.peer(2, config=HEARTBEAT)
    proxy = bed.proxy(two)
    one.dial(two, proxy)
    both_ways(bed, one, two, 20)
    (client,) = (end for end in proxy._ends if end.sock.getsockname()[1] == proxy.port)
    target = client.other
    bed.reactor.set_reader(client.sock.fileno(), None)
    want = len(two.got[1]) + 1
    one.links.send(2, b"on its way")
    client.sock.setblocking(True)
    late = client.sock.recv(1 << 16)
    proxy._close(client, abort=True)
    bed.until(lambda: len(two.got[1]) == want)  # by the new connection
    assert proxy.accepted == 2
    bed.reactor.set_reader(target.sock.fileno(), None)
    target.sock.sendall(late)
    bed.run_for(0.3)
    proxy._close(target, abort=True)
    bed.run_for(0.5)  # several heartbeats
    one.got.clear(), two.got.clear()
    both_ways(bed, one, two, 500)
    assert not two.restarts and not one.restarts
    bed.close()


def test_late_words_of_a_replaced_connection() -> None:
    """In a process of its own: an assertion of libzmq would end this one."""
    folder = Path(__file__).parent
    program = f"import sys; sys.path[:0] = [{str(folder.parent)!r}]; "
    program += "from runtime.test_link_paths import late_words_of_a_replaced_connection as run; run()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
