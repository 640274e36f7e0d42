"""Several agents: two policies learn rock, paper and scissors against each other, and one against a rule.

pip install 'hpc[rllib]'
python examples/rl_agents.py                # each learns: nobody stays ahead
python examples/rl_agents.py --rule         # player2 always plays rock, and is not trained
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.connectors.env_to_module import FlattenObservations
from hpc.rllib.core.columns import Columns
from hpc.rllib.core.rl_module import MultiRLModuleSpec, RLModule, RLModuleSpec
from hpc.rllib.examples.envs.classes.multi_agent.rock_paper_scissors import RockPaperScissors


class AlwaysRock(RLModule):
    """A module of a rule: it has no weights, and is not trained."""

    def _forward_inference(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTIONS: np.zeros(len(batch[Columns.OBS]), np.int64)}

    _forward_exploration = _forward_inference

    def _forward_train(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError("a rule is not trained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rule", action="store_true", help="player2 plays by a rule")
    parser.add_argument("--iterations", type=int, default=20, help="(20)")
    told = parser.parse_args()
    specs = {"player1": RLModuleSpec(), "player2": RLModuleSpec(AlwaysRock) if told.rule else RLModuleSpec()}
    config = (
        PPOConfig()
        .environment(RockPaperScissors)
        .env_runners(
            num_env_runners=0,
            num_envs_per_env_runner=4,
            env_to_module_connector=lambda env, spaces, device: FlattenObservations(multi_agent=True),
        )
        .training(train_batch_size_per_learner=800, minibatch_size=200, num_epochs=6, lr=3e-3, gamma=0.9)
        .multi_agent(policies=set(specs), policy_mapping_fn=lambda agent, episode, **kwargs: agent)
        .rl_module(rl_module_spec=MultiRLModuleSpec(rl_module_specs=specs), model_config={"fcnet_hiddens": [32]})
        .debugging(seed=0)
    )
    if told.rule:
        config.multi_agent(policies_to_train=["player1"])
    algo = config.build_algo()
    returns: dict[str, float] = {}
    for _ in range(told.iterations):
        returns = algo.train()["env_runners"]["agent_episode_returns_mean"]
        print(f"player1 {returns['player1']:+.2f} of 10, player2 {returns['player2']:+.2f}", flush=True)
    algo.stop()
    if told.rule:
        print("player1 has found what beats rock" if returns["player1"] > 5 else "player1 has not found it yet")


if __name__ == "__main__":
    main()
