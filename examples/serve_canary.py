"""A canary: a tenth of the requests goes to a new version, which loses them by itself when it answers badly.

    python examples/serve_canary.py                 # a bad version, and then a good one that is promoted

Users are sticky: requests with the same header go to the same version. The old one has the route all the time, until
`promote`.
"""

from __future__ import annotations

import argparse
import collections
import http.client
import socket
import time

import hpc
from hpc import serve
from hpc.serve.http import door


@serve.deployment(max_ongoing_requests=20, graceful_shutdown_wait_loop_s=0.1)
class Model:
    def __init__(self, version: str, is_broken: bool = False) -> None:
        self.version, self.is_broken = version, is_broken

    def __call__(self) -> str:
        if self.is_broken:
            raise RuntimeError("this version was trained on the wrong labels")
        return self.version


class Door(http.client.HTTPConnection):
    """The service's socket."""

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(next(one for doors in door.told().values() for one in doors)[len("unix:") :])


def ask(number: int) -> str:
    """What user `number` is answered."""
    connection = Door("localhost")
    connection.request("GET", "/", headers={"x-user": str(number)})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return text if answer.status == 200 else str(answer.status)


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--requests", type=int, default=1000)
    given = options.parse_args()
    hpc.init(num_cpus=4)
    serve.run(Model.bind("v1"), name="model")
    print("v1 alone:", dict(collections.Counter(ask(n) for n in range(given.requests // 10))))

    serve.run(Model.bind("v2", True), name="v2", route_prefix=None)
    serve.split("model", {"model": 0.9, "v2": 0.1}, sticky="header:x-user", max_error_rate=0.2, min_requests=10)
    asked = 0
    while not serve.splits()["model"].rolled_back:  # a bad version has lost its weight
        ask(asked)
        asked += 1
    print("v2 rolled back:", serve.splits()["model"].rolled_back)
    time.sleep(0.2)
    print("after that:", dict(collections.Counter(ask(n) for n in range(given.requests // 10))))

    serve.run(Model.bind("v3"), name="v3", route_prefix=None)
    serve.split("model", {"model": 0.9, "v3": 0.1}, sticky="header:x-user")
    time.sleep(0.2)
    shares = collections.Counter(ask(n) for n in range(given.requests))
    print(f"v3 has {shares['v3'] / given.requests:.0%} of {sum(shares.values())} users")
    serve.promote("model", "v3")
    time.sleep(0.2)
    print("promoted:", dict(collections.Counter(ask(n) for n in range(given.requests // 10))))
    serve.shutdown()


if __name__ == "__main__":
    main()
