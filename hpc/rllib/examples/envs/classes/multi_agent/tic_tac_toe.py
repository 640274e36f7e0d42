"""Three in a row for two players who move in turn."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np

from hpc.rllib.env.multi_agent_env import MultiAgentEnv

PLAYERS = ["player1", "player2"]


class TicTacToe(MultiAgentEnv):
    """A player observes the nine fields (1: own, -1: the other's, 0: empty) and names one.

    A field that is taken costs 0.5 and the turn. The winner gets 1, the loser -1. After 30 turns it is truncated.
    """

    WIN_LINES = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [0, 3, 6], [1, 4, 7], [2, 5, 8], [0, 4, 8], [2, 4, 6]]

    def __init__(self, config: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.agents = self.possible_agents = list(PLAYERS)
        self.observation_spaces = {player: gym.spaces.Box(-1.0, 1.0, (9,), np.float32) for player in PLAYERS}
        self.action_spaces = {player: gym.spaces.Discrete(9) for player in PLAYERS}
        self.max_timesteps = 30
        self._random = random.Random()
        self.board = np.zeros(9, np.float32)
        self.current_player = PLAYERS[0]
        self.timestep = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        if seed is not None:
            self._random.seed(seed)
        self.board = np.zeros(9, np.float32)
        self.current_player = self._random.choice(PLAYERS)
        self.timestep = 0
        return {self.current_player: self.board.copy()}, {}

    def step(self, action_dict: dict[Any, Any]) -> Any:
        player, action = self.current_player, int(action_dict[self.current_player])
        opponent = PLAYERS[player == PLAYERS[0]]
        self.timestep += 1
        is_free = self.board[action] == 0
        if is_free:
            self.board[action] = 1
        has_won = is_free and any(self.board[line].min() == 1 for line in self.WIN_LINES)
        is_over = has_won or bool(self.board.all())
        is_late = not is_over and self.timestep >= self.max_timesteps
        rewards = {player: 1.0 if has_won else 0.0 if is_free else -0.5}
        if is_over or is_late:
            rewards[opponent] = -1.0 if has_won else 0.0
            seen = {player: self.board.copy(), opponent: -self.board}
        else:
            self.board = -self.board
            self.current_player = opponent
            seen = {opponent: self.board.copy()}
        return seen, rewards, {"__all__": is_over}, {"__all__": is_late}, {}

    def render(self) -> str:
        """The board as text, X for the player whose turn it is."""
        marks = [" XO"[int(field)] for field in self.board]
        return "\n-----------\n".join(f" {' | '.join(marks[row : row + 3])} " for row in (0, 3, 6))
