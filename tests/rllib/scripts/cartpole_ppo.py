"""PPO on CartPole, as a script for RLlib: with --num-agents on several of them."""

from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole
from ray.rllib.utils.test_utils import add_rllib_example_script_args
from ray.tune.registry import register_env

parser = add_rllib_example_script_args(default_reward=450.0, default_timesteps=300000)
parser.set_defaults(num_env_runners=2)

if __name__ == "__main__":
    args = parser.parse_args()
    if args.num_agents > 0:
        register_env("env", lambda cfg: MultiAgentCartPole(config={"num_agents": args.num_agents}))

    config = (
        PPOConfig()
        .environment("env" if args.num_agents > 0 else "CartPole-v1")
        .training(lr=0.0003, num_epochs=6, vf_loss_coeff=0.01)
        .rl_module(
            model_config=DefaultModelConfig(
                fcnet_hiddens=[32],
                fcnet_activation="linear",
                vf_share_layers=True,
            ),
        )
    )
    if args.num_agents > 0:
        config.multi_agent(
            policy_mapping_fn=lambda aid, *a, **kw: f"p{aid}",
            policies={f"p{i}" for i in range(args.num_agents)},
        )

    from ray.rllib.utils.test_utils import run_rllib_example_script_experiment

    run_rllib_example_script_experiment(config, args)
