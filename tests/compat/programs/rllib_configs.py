"""The defaults of each algorithm: what a configuration has before anything is set."""
# needs: torch, gymnasium

from hpc.rllib.algorithms.appo import APPOConfig
from hpc.rllib.algorithms.bc import BCConfig
from hpc.rllib.algorithms.cql import CQLConfig
from hpc.rllib.algorithms.dqn import DQNConfig
from hpc.rllib.algorithms.impala import IMPALAConfig
from hpc.rllib.algorithms.marwil import MARWILConfig
from hpc.rllib.algorithms.ppo import PPOConfig
from hpc.rllib.algorithms.sac import SACConfig
from hpc.rllib.core.rl_module.default_model_config import DefaultModelConfig

COMMON = """
    env env_config observation_space action_space clip_rewards normalize_actions clip_actions render_env
    disable_env_checking action_mask_key
    num_env_runners create_local_env_runner num_envs_per_env_runner gym_env_vectorize_mode num_cpus_per_env_runner
    num_gpus_per_env_runner custom_resources_per_env_runner validate_env_runners_after_construction sample_timeout_s
    max_requests_in_flight_per_env_runner add_default_connectors_to_env_to_module_pipeline
    add_default_connectors_to_module_to_env_pipeline episode_lookback_horizon merge_env_runner_states
    broadcast_env_runner_states rollout_fragment_length batch_mode explore episodes_to_numpy compress_observations
    num_learners num_cpus_per_learner num_gpus_per_learner custom_resources_per_learner
    num_aggregator_actors_per_learner max_requests_in_flight_per_aggregator_actor local_gpu_idx
    max_requests_in_flight_per_learner add_default_connectors_to_learner_pipeline learner_config_dict
    gamma lr grad_clip grad_clip_by num_epochs minibatch_size shuffle_batch_per_epoch
    count_steps_by algorithm_config_overrides_per_module policies_to_train
    evaluation_interval evaluation_duration evaluation_duration_unit evaluation_parallel_to_training
    evaluation_auto_duration_min_env_steps_per_sample evaluation_auto_duration_max_env_steps_per_sample
    evaluation_sample_timeout_s evaluation_force_reset_envs_before_iteration evaluation_config
    evaluation_num_env_runners in_evaluation
    input_ input_read_method input_read_method_kwargs input_read_episodes input_read_batch_size
    materialize_data materialize_mapped_data map_batches_kwargs iter_batches_kwargs ignore_final_observation
    dataset_num_iters_per_learner prelearner_use_recorded_module_states shuffle_buffer_size
    output output_config output_max_rows_per_file output_write_remaining_data output_write_method
    output_write_method_kwargs output_write_episodes
    metrics_num_episodes_for_smoothing min_time_s_per_iteration min_train_timesteps_per_iteration
    min_sample_timesteps_per_iteration log_gradients
    export_native_model_files checkpoint_trainable_policies_only log_level log_sys_usage seed
    restart_failed_env_runners ignore_env_runner_failures max_num_env_runner_restarts
    delay_between_env_runner_restarts_s restart_failed_sub_environments num_consecutive_env_runner_failures_tolerance
    env_runner_health_probe_timeout_s env_runner_restore_timeout_s
    framework_str torch_compile_learner torch_compile_worker torch_ddp_kwargs torch_skip_nan_gradients
    num_cpus_for_main_process custom_resources_for_main_process placement_strategy
    enable_rl_module_and_learner enable_env_runner_and_connector_v2
    is_multi_agent is_offline is_online train_batch_size_per_learner total_train_batch_size
""".split()

OWN = {
    PPOConfig: "use_critic use_gae lambda_ use_kl_loss kl_coeff kl_target vf_loss_coeff entropy_coeff clip_param vf_clip_param",
    DQNConfig: """target_network_update_freq tau num_steps_sampled_before_learning_starts epsilon
        replay_buffer_config dueling double_q n_step noisy sigma0 num_atoms v_min v_max training_intensity
        td_error_loss_fn adam_epsilon categorical_distribution_temperature burn_in_len""",
    SACConfig: """twin_q tau initial_alpha target_entropy n_step replay_buffer_config training_intensity actor_lr
        critic_lr alpha_lr target_network_update_freq num_steps_sampled_before_learning_starts""",
    IMPALAConfig: """vtrace vtrace_clip_rho_threshold vtrace_clip_pg_rho_threshold learner_queue_size
        broadcast_interval lr vf_loss_coeff entropy_coeff""",
    APPOConfig: """vtrace use_gae lambda_ clip_param use_kl_loss kl_coeff kl_target target_network_update_freq tau
        target_worker_clipping circular_buffer_num_batches circular_buffer_iterations_per_batch broadcast_interval
        entropy_coeff vf_loss_coeff""",
    BCConfig: "beta",
    MARWILConfig: """beta bc_logstd_coeff moving_average_sqd_adv_norm_update_rate
        moving_average_sqd_adv_norm_start vf_coeff use_gae lambda_""",
    CQLConfig: "bc_iters temperature num_actions lagrangian lagrangian_thresh min_q_weight deterministic_backup",
}  # fmt: skip


def shown(config, name):
    """The value of an attribute; of classes their name."""
    try:
        value = getattr(config, name)
    except AttributeError:
        return "no such attribute"
    except Exception as error:
        return f"{type(error).__name__}"
    return value.__name__ if isinstance(value, type) else repr(value)


base = PPOConfig()
for name in COMMON:
    print(name, shown(base, name))
for kind, own in OWN.items():
    print(f"== {kind.__name__}")
    config = kind()
    for name in COMMON:
        if shown(config, name) != shown(base, name):
            print(name, shown(config, name))
    for name in own.split():
        print(name, shown(config, name))
    print(config.algo_class.__name__, config.get_default_learner_class().__name__)

print("== model")
for name, value in DefaultModelConfig().__dict__.items():
    print(name, value)
