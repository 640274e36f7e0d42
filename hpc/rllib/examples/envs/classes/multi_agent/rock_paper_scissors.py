"""Rock, paper and scissors for two players who move at the same time."""

from __future__ import annotations

from typing import Any

import gymnasium as gym

from hpc.rllib.env.multi_agent_env import MultiAgentEnv

PLAYERS = ["player1", "player2"]
MOVES = 10


class RockPaperScissors(MultiAgentEnv):
    """Ten moves; the winner of each gets 1, the loser -1. A player observes the last move of the other one.

    `sheldon_cooper_mode` of ``config`` adds lizard and Spock.
    """

    ROCK, PAPER, SCISSORS, LIZARD, SPOCK = range(5)
    #: What each move wins against.
    BEATS = {
        ROCK: (SCISSORS, LIZARD), PAPER: (ROCK, SPOCK), SCISSORS: (PAPER, LIZARD), LIZARD: (PAPER, SPOCK),
        SPOCK: (ROCK, SCISSORS),
    }  # fmt: skip

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.sheldon_cooper_mode = bool((config or {}).get("sheldon_cooper_mode"))
        self.agents = self.possible_agents = list(PLAYERS)
        spaces: dict[Any, gym.Space[Any]] = {
            player: gym.spaces.Discrete(5 if self.sheldon_cooper_mode else 3) for player in PLAYERS
        }
        self.observation_spaces = self.action_spaces = spaces
        self.num_moves = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.num_moves = 0
        return dict.fromkeys(PLAYERS, 0), {}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        self.num_moves += 1
        one, two = (int(action_dict[player]) for player in PLAYERS)
        reward = int(two in self.BEATS[one]) - int(one in self.BEATS[two])
        observations = dict(zip(PLAYERS, (two, one)))
        rewards = dict(zip(PLAYERS, (reward, -reward)))
        return observations, rewards, {"__all__": self.num_moves >= MOVES}, {"__all__": False}, {}
