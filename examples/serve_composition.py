"""Composition: an ingress asks two models at once, and one of them passes what it finds on to a third.

    hpc-launch --nodes 2 --time 1h examples/serve_composition.py --serve
    python examples/serve_composition.py            # on this machine: one request, and the end

Each deployment has replicas of its own, wherever there is room. A response that is passed to another deployment goes
there by itself, not by the ingress.
"""

from __future__ import annotations

import argparse
import asyncio

from hpc import serve
from hpc.serve.handle import DeploymentHandle


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Words:
    """Splits a text."""

    def __call__(self, text: str) -> list[str]:
        return text.lower().split()


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 0.1})
class Longest:
    """Finds the longest word."""

    def __call__(self, words: list[str]) -> str:
        return max(words, key=len)


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Mood:
    """Says whether a text is a good or a bad one; a real one has a model."""

    GOOD, BAD = {"fast", "good", "free"}, {"slow", "bad", "down"}

    def __call__(self, words: list[str]) -> int:
        return sum((word in self.GOOD) - (word in self.BAD) for word in words)


@serve.deployment(ray_actor_options={"num_cpus": 0.1})
class Reader:
    """The ingress."""

    def __init__(self, words: DeploymentHandle, longest: DeploymentHandle, mood: DeploymentHandle) -> None:
        self.words, self.longest, self.mood = words, longest, mood

    async def read(self, text: str) -> dict:
        words = self.words.remote(text)
        longest, mood = await asyncio.gather(self.longest.remote(words), self.mood.remote(words))
        return {"longest": longest, "mood": mood}

    async def __call__(self, request) -> dict:
        return await self.read((await request.body()).decode())


app = Reader.bind(Words.bind(), Longest.bind(), Mood.bind())

if __name__ == "__main__":
    options = argparse.ArgumentParser()
    options.add_argument("--serve", action="store_true", help="serve until Ctrl-C")
    options.add_argument("--text", default="The queue is down but the filesystem is fast and good")
    given = options.parse_args()
    handle = serve.run(app, blocking=given.serve)
    print(handle.read.remote(given.text).result())
    serve.shutdown()
