"""What train() returns: the keys, and the kinds of their values."""
# needs: torch, gymnasium

import numpy as np

from hpc.rllib.algorithms.dqn import DQNConfig
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.algorithms.sac import SACConfig
from hpc.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole


def kind(value):
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return "number"
    return type(value).__name__


def rows(result, path=""):
    for key in sorted(result, key=str):
        value, name = result[key], f"{path}{key}"
        if key in ("config", "perf", "timers", "connector_pipeline_timer") or "timer" in str(key) or "connector" in str(key):
            continue
        if isinstance(value, dict):
            yield from rows(value, f"{name}/")
        else:
            yield name, kind(value)


def counted(title, algo, times):
    print("==", title)
    for _ in range(times):
        result = algo.train()
    for name, value in rows(result):
        if "per_s" in name or "per_sample" in name or "throughput" in name or "rss" in name:
            continue
        print(name, value)
    print(result["training_iteration"], result["iterations_since_restore"], result["num_training_step_calls_per_iteration"])
    print(algo.iteration, algo.training_iteration, type(result).__name__)
    algo.stop()


tiny = {"fcnet_hiddens": [8]}
ppo = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0, num_envs_per_env_runner=2)
ppo.training(train_batch_size_per_learner=400, minibatch_size=100, num_epochs=2).rl_module(model_config=tiny).debugging(seed=3)
counted("PPO", ppo.build_algo(), 2)

ppo.evaluation(evaluation_interval=2, evaluation_duration=3, evaluation_num_env_runners=0)
counted("PPO with evaluation", ppo.copy(copy_frozen=False).build_algo(), 2)

dqn = DQNConfig().environment("CartPole-v1").training(num_steps_sampled_before_learning_starts=100)
dqn.reporting(min_sample_timesteps_per_iteration=200).rl_module(model_config=tiny).debugging(seed=3)
counted("DQN", dqn.build_algo(), 2)

sac = SACConfig().environment("Pendulum-v1").training(num_steps_sampled_before_learning_starts=60, train_batch_size_per_learner=32)
sac.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=100).debugging(seed=3)
counted("SAC", sac.build_algo(), 1)

many = PPOConfig().environment(MultiAgentCartPole, env_config={"num_agents": 2}).env_runners(num_env_runners=0)
many.training(train_batch_size_per_learner=300, minibatch_size=100, num_epochs=2).rl_module(model_config=tiny).debugging(seed=3)
many.multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, episode, **kw: f"p{agent_id}")
counted("two agents", many.build_algo(), 1)
