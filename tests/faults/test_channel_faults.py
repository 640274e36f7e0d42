"""Channels and watches when links break, heads are killed and nodes die: nothing is lost that need not be."""

from __future__ import annotations

import random
import threading

from faults.linkbed import Fault, linked_nodes

import hpc
from hpc import spi
from runtime.running import Heads, eventually, kill9, local_nodes, on, pid_of

KIB = 1 << 10
TIGHT = {"link_window_bytes": 128 * KIB, "link_wire_window_bytes": 64 * KIB}


@hpc.remote(num_cpus=0)
class Echo:
    def where(self):
        return spi.whoami().process

    def echo(self, name):
        with spi.listen(name) as mailbox, mailbox.accept(60) as channel:
            count = 0
            for message in channel:
                channel.send(message)
                count += 1
            return count


@hpc.remote(num_cpus=0)
def node_dir_here():
    return hpc.get_runtime_context().get_temp_dir()


def test_messages_come_once_and_in_order_over_links_that_break(tmp_path):
    rng = random.Random(1)
    messages = [number.to_bytes(4, "big") + bytes(rng.choice([0, 100, 200 * KIB])) for number in range(200)]
    with linked_nodes(2, tmp_path, config=TIGHT, num_cpus=2) as (_, bed):
        echo = Echo.options(scheduling_strategy=on(2)).remote()
        address = hpc.get(echo.where.remote(), timeout=30)
        for number in range(2):
            done = echo.echo.remote(f"box{number}")
            with spi.connect(address, f"box{number}", 30) as channel:
                kinds = ["rst", "stall", "half"]
                bed.arm(*(Fault(rng.choice(kinds), rng.randrange(1, 150), "inside", True, 0.3) for _ in range(4)))
                sender = threading.Thread(target=lambda channel=channel: [channel.send(one, 60) for one in messages])
                sender.start()
                assert [channel.recv(60) for _ in messages] == messages
                sender.join()
            assert hpc.get(done, timeout=60) == len(messages)
            assert bed.done


def test_the_end_of_a_node_ends_its_channels():
    with local_nodes(2) as session:
        echo = Echo.options(scheduling_strategy=on(2), max_restarts=0).remote()
        address = hpc.get(echo.where.remote(), timeout=30)
        echo.echo.remote("box")
        channel = spi.connect(address, "box", 30)
        channel.send(b"there")
        assert channel.recv(30) == b"there"
        ends: list[spi.ChannelEnded] = []

        def wait():
            try:
                channel.recv(60)
            except spi.ChannelEnded as end:
                ends.append(end)

        waiting = threading.Thread(target=wait)
        waiting.start()
        node_dir = hpc.get(node_dir_here.options(scheduling_strategy=on(2)).remote(), timeout=30)
        kill9(pid_of(node_dir, "raylet"))
        eventually(lambda: session.pump(0.05) or not waiting.is_alive(), 30)
        assert ends[0].lost


def test_watchers_come_to_know_the_last_values_whichever_heads_die():
    @hpc.remote(num_cpus=0)
    def follow(last):
        seen: dict[str, bytes | None] = {}
        with spi.watch("s", "k/", prefix=True) as watch:
            for changes in watch:
                for change in changes:
                    seen[change.key] = change.value
                    assert change.value is None or int(change.value) >= 0
                if seen.get("k/end") == last:
                    return {key: value for key, value in seen.items() if value is not None}

    with local_nodes(2) as session:
        heads = Heads(session)
        followers = [follow.options(scheduling_strategy=on(1 + n % 2)).remote(b"999") for n in range(6)]
        for number in range(60):
            spi.kv_put("s", f"k/{number % 7}", b"%d" % number)
            if number % 5 == 0:
                spi.kv_delete("s", f"k/{(number + 3) % 7}")
            if number in (20, 40):
                heads.kill(wait=False)
        spi.kv_put("s", "k/end", b"999")
        there = {key: spi.kv_get("s", key) for key in spi.kv_keys("s")}
        assert hpc.get(followers, timeout=60) == [there] * 6
