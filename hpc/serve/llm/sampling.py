"""How the next token is drawn from those that may follow. Pure: the randomness is the request's seed and the place."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

from hpc.serve.llm.engine import TokenRequest

#: A token, and the logarithm of its probability.
Candidate = tuple[int, float]


def draw(seed: int, place: int) -> float:
    """A number from 0 to 1, 1 excluded, that the seed and the place in the sequence decide."""
    mixed = hashlib.blake2b(f"{seed}:{place}".encode(), digest_size=8).digest()
    return (int.from_bytes(mixed, "big") >> 11) / (1 << 53)


def pick(candidates: Sequence[Candidate], request: TokenRequest, place: int) -> int:
    """The token for this place. candidates: the most probable first.

    `top_k` keeps the first so many; `top_p` the fewest that have this probability together, at least one."""
    if request.temperature <= 0:
        return candidates[0][0]
    kept = candidates[: request.top_k] if request.top_k > 0 else candidates
    largest = kept[0][1]
    weights = [math.exp((logprob - largest) / request.temperature) for _, logprob in kept]
    bound, total = request.top_p * sum(weights), 0.0
    for count, weight in enumerate(weights, 1):
        total += weight
        if total >= bound:
            weights = weights[:count]
            break
    left = draw(request.seed or 0, place) * total
    for (token, _), weight in zip(kept, weights):
        left -= weight
        if left < 0:
            return token
    return kept[len(weights) - 1][0]
