"""What train() returns: the keys, and the kinds of their values."""
# needs: torch, gymnasium

import numpy as np

from hpc.rllib.algorithms.dqn import DQNConfig
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.algorithms.sac import SACConfig
from hpc.rllib.examples.envs.classes.multi_agent import MultiAgentCartPole

KEYS = """
    0 1 actual_n_step alpha_learning_rate alpha_loss alpha_value curr_entropy_coeff curr_kl_coeff date
    default_agent default_optimizer_learning_rate default_policy diff_num_grad_updates_vs_sampler_policy done
    ended: entropy env_step_utilization episode_duration_sec_mean episode_len_max episode_len_mean
    episode_len_min episode_return_max episode_return_mean episode_return_min
    gradients_default_optimizer_global_norm hostname iterations_since_restore last_target_update_ts
    log_alpha_value logps mean_kl_loss module_train_batch_size_mean node_ip num_env_runners_dropped_lifetime
    num_env_steps_added num_env_steps_added_lifetime num_env_steps_evicted num_env_steps_evicted_lifetime
    num_env_steps_sampled num_env_steps_sampled_lifetime num_env_steps_stored num_env_steps_trained
    num_env_steps_trained_lifetime num_episodes num_episodes_added num_episodes_added_lifetime
    num_episodes_evicted num_episodes_evicted_lifetime num_episodes_lifetime num_episodes_stored
    num_healthy_workers num_module_steps_trained num_module_steps_trained_lifetime num_remote_worker_restarts
    num_resamples num_target_updates num_trainable_parameters num_training_step_calls_per_iteration p0 p1 pid
    policy_learning_rate policy_loss qf_learning_rate qf_loss qf_max qf_mean qf_min qf_twin_learning_rate
    qf_twin_loss sample target_entropy td_error_mean time_between_sampling time_since_restore time_this_iter_s
    time_total_s timestamp total_loss training_iteration trial_id vf_explained_var vf_loss vf_loss_unclipped
    weights_seq_no
""".split()


def kind(value):
    if isinstance(value, (bool, np.bool_)):
        return "bool"
    if isinstance(value, (int, float, np.integer, np.floating)):
        return "number"
    return type(value).__name__


def rows(result, path=""):
    for key in sorted(result, key=str):
        value, name = result[key], f"{path}{key}"
        if (
            key in ("config", "perf", "timers", "connector_pipeline_timer")
            or "timer" in str(key)
            or "connector" in str(key)
        ):
            continue
        if isinstance(value, dict):
            yield from rows(value, f"{name}/")
        elif str(key) in KEYS and not name.startswith(
            ("replay_buffer/agent", "replay_buffer/module", "replay_buffer/num_agent", "replay_buffer/num_module")
        ):
            yield name, kind(value)


def counted(title, algo, times, without="no such key"):
    print("==", title)
    for _ in range(times):
        result = algo.train()
    for name, value in rows(result):
        if without in name or "per_s" in name or "per_sample" in name or "throughput" in name or "rss" in name:
            continue
        print(name, value)
    print(algo.iteration, algo.training_iteration, type(result).__name__)
    algo.stop()


tiny = {"fcnet_hiddens": [8]}
ppo = PPOConfig().environment("CartPole-v1").env_runners(num_env_runners=0, num_envs_per_env_runner=2)
ppo.training(train_batch_size_per_learner=400, minibatch_size=100, num_epochs=2).rl_module(model_config=tiny).debugging(
    seed=3
)
counted("PPO", ppo.build_algo(), 2)

ppo.evaluation(evaluation_interval=2, evaluation_duration=3, evaluation_num_env_runners=0)
counted("PPO with evaluation", ppo.copy(copy_frozen=False).build_algo(), 2)

dqn = DQNConfig().environment("CartPole-v1").training(num_steps_sampled_before_learning_starts=100)
dqn.reporting(min_sample_timesteps_per_iteration=200).rl_module(model_config=tiny).debugging(seed=3)
counted("DQN", dqn.build_algo(), 2)

sac = (
    SACConfig()
    .environment("Pendulum-v1")
    .training(num_steps_sampled_before_learning_starts=60, train_batch_size_per_learner=32)
)
sac.reporting(min_time_s_per_iteration=0, min_sample_timesteps_per_iteration=100).debugging(seed=3)
counted("SAC", sac.build_algo(), 1, without="env_runners/episode_")  # none has ended

many = PPOConfig().environment(MultiAgentCartPole, env_config={"num_agents": 2}).env_runners(num_env_runners=0)
many.training(train_batch_size_per_learner=300, minibatch_size=100, num_epochs=2).rl_module(
    model_config=tiny
).debugging(seed=3)
many.multi_agent(policies={"p0", "p1"}, policy_mapping_fn=lambda agent_id, episode, **kw: f"p{agent_id}")
counted("two agents", many.build_algo(), 1)
