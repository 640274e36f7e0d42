"""What becomes of RLlib's public names; docs/generate_rllib.py makes the table in rllib.md of it.

The names, their parameters and defaults are recorded by tests/compat/rllib_names.py. A name without a remark is here
under the same path, with these parameters and defaults; tests/compat/test_rllib_names.py holds that.
"""

from __future__ import annotations

OLD = "is of the old API"
OWN = "serves Ray's own code"
PLAN = "is not there yet"
OFFLINE = "a policy is judged in its environment: of data alone it is not"
REMOTE = "fields are set when it is made"
CONFIG = "ray.rllib.algorithms.algorithm_config.AlgorithmConfig"
ALGORITHMS = "ray.rllib.algorithms"

DREAMER = ("DreamerV3", "DreamerV3Config", "dreamerv3", "dreamerv3_catalog", "utils")

#: Names that exist and do less, or something else, than Ray's.
DIFFERS: dict[str, str] = {
    f"{ALGORITHMS}.algorithm.Algorithm": "`act` is ours: from an observation to the environment's action by one call",
    f"{CONFIG}.environment": "the default modules apply masks of actions, where the observation has that key",
    f"{CONFIG}.env_runners": "`sync` takes an environment's own vector class where it has one",
    f"{CONFIG}.framework": "torch is the only one",
    f"{CONFIG}.offline_data": "files are read by pyarrow or hpc.data",
    "ray.rllib.utils.replay_buffers.episode_replay_buffer.EpisodeReplayBuffer": "drops the oldest steps, no episodes",
}  # fmt: skip

#: Names that do not exist, and why. One of a module or class holds for what is in it.
NO: dict[str, str] = {
    **{
        f"ray.rllib.{name}": OLD
        for name in (
            "BaseEnv", "ExternalEnv", "Policy", "RolloutWorker", "SampleBatch", "TFPolicy", "TorchPolicy", "VectorEnv",
            "models",
        )
    },
    **{
        f"{ALGORITHMS}.{name}": OLD
        for name in (
            "appo.APPOTF1Policy", "appo.APPOTF2Policy", "appo.APPOTorchPolicy", "appo.appo_tf_policy",
            "appo.appo_torch_policy", "cql.CQLTorchPolicy", "cql.cql_tf_policy", "cql.cql_torch_policy",
            "dqn.DQNTFPolicy", "dqn.DQNTorchPolicy", "dqn.distributional_q_tf_model", "dqn.dqn_tf_policy",
            "dqn.dqn_torch_model", "dqn.dqn_torch_policy", "impala.ImpalaTF1Policy", "impala.ImpalaTF2Policy",
            "impala.ImpalaTorchPolicy", "impala.impala_tf_policy", "impala.impala_torch_policy", "impala.vtrace_tf",
            "marwil.MARWILTF1Policy", "marwil.MARWILTF2Policy", "marwil.MARWILTorchPolicy", "marwil.marwil_tf_policy",
            "marwil.marwil_torch_policy", "ppo.PPOTF1Policy", "ppo.PPOTF2Policy", "ppo.PPOTorchPolicy",
            "ppo.ppo_tf_policy", "ppo.ppo_torch_policy", "sac.SACTFPolicy", "sac.SACTorchPolicy", "sac.sac_tf_model",
            "sac.sac_tf_policy", "sac.sac_torch_model", "sac.sac_torch_policy",
        )
    },
    f"{ALGORITHMS}.impala.vtrace_torch": "is `hpc.rllib.math.vtrace`",
    f"{ALGORITHMS}.appo.utils": OWN,
    f"{ALGORITHMS}.algorithm.TrainIterCtx": OWN,
    f"{ALGORITHMS}.algorithm_config.DifferentiableAlgorithmConfig": "meta-learning is not there",
    **{f"{ALGORITHMS}.dreamerv3.{name}": "use SAC or PPO" for name in DREAMER},
    **{f"{ALGORITHMS}.iql.{name}": "use CQL or MARWIL" for name in ("IQL", "IQLConfig", "iql")},
    **{f"{ALGORITHMS}.tqc.{name}": "use SAC" for name in ("TQC", "TQCCatalog", "TQCConfig", "tqc", "tqc_catalog")},
    "ray.rllib.callbacks.callbacks.MemoryTrackingCallbacks": "memory is seen by `hpc memory` and on the dashboard",
    "ray.rllib.core.learner.differentiable_learner.DifferentiableLearner": "meta-learning is not there",
    "ray.rllib.core.learner.learner_group.RLlibBackendExecutor": OWN,
    "ray.rllib.core.rl_module.multi_rl_module.MultiRLModuleConfig": "Ray has deprecated it: specs",
    "ray.rllib.core.rl_module.rl_module.RLModuleConfig": "Ray has deprecated it: specs",
    "ray.rllib.core.rl_module.torch.torch_compile_config": "`framework(torch_compile_...)` says it",
    "ray.rllib.env.multi_agent_env.MultiAgentEnvWrapper": OLD,
    "ray.rllib.offline.offline_prelearner.OfflinePreLearner": "fragments are made of files as of environments",
    "ray.rllib.utils.replay_buffers.multi_agent_prioritized_episode_buffer.MultiAgentPrioritizedEpisodeReplayBuffer": (
        "is in `hpc.rllib.utils.replay_buffers`"
    ),
    "ray.rllib.utils.checkpoints.convert_to_msgpack_checkpoint": OLD,
    "ray.rllib.utils.checkpoints.convert_to_msgpack_policy_checkpoint": OLD,
    "ray.rllib.utils.checkpoints.get_checkpoint_info": OLD,
    "ray.rllib.utils.metrics.metrics_logger.stats_from_legacy_state": OLD,
}  # fmt: skip

#: Classes that lack some of the methods and attributes that Ray's have, and why.
MEMBERS: dict[str, str] = {
    "ray.rllib.MultiAgentEnv": OLD,
    f"{ALGORITHMS}.algorithm.Algorithm": OLD,
    CONFIG: OLD,
    **{
        f"{ALGORITHMS}.{name}": OLD
        for name in ("appo.APPO", "cql.CQL", "dqn.DQN", "impala.IMPALA", "marwil.MARWIL", "ppo.PPO", "sac.SAC")
    },
    f"{ALGORITHMS}.impala.IMPALAConfig": OLD,
    "ray.rllib.callbacks.callbacks.RLlibCallback": OLD,
    "ray.rllib.core.learner.learner.Learner": "Ray has deprecated them: `update`",
    "ray.rllib.core.learner.learner_group.LearnerGroup": "Ray has deprecated them: `update`",
    "ray.rllib.core.models.catalog.Catalog": OLD,
    "ray.rllib.core.rl_module.MultiRLModule": OLD,
    "ray.rllib.core.rl_module.MultiRLModuleSpec": OLD,
    "ray.rllib.core.rl_module.RLModule": OLD,
    "ray.rllib.core.rl_module.RLModuleSpec": OLD,
    "ray.rllib.env.env_runner_group.EnvRunnerGroup": OLD,
    "ray.rllib.env.external.rllink.RLlink": OLD,
    "ray.rllib.env.multi_agent_env_runner.MultiAgentEnvRunner": OLD,
    "ray.rllib.env.multi_agent_episode.MultiAgentEpisode": REMOTE,
    "ray.rllib.env.single_agent_env_runner.SingleAgentEnvRunner": OLD,
    "ray.rllib.env.single_agent_episode.SingleAgentEpisode": REMOTE,
    "ray.rllib.offline.offline_data.OfflineData": OWN,
    "ray.rllib.utils.metrics.metrics_logger.MetricsLogger": OWN,
    "ray.rllib.utils.replay_buffers.multi_agent_episode_buffer.MultiAgentEpisodeReplayBuffer": OWN,
}  # fmt: skip


def _words(method: str, words: str, why: str) -> dict[tuple[str, str], str]:
    return {(f"{CONFIG}.{method}", word): why for word in words.split()}


SAYS = "is of the old API: an error says what to use"
#: Parameters of names that exist which are not taken, and why.
NOT_TAKEN: dict[tuple[str, str], str] = {
    **_words(
        "env_runners",
        "create_env_on_local_worker compress_observations use_worker_filter_stats update_worker_filter_stats "
        "exploration_config sample_collector remote_worker_envs remote_env_batch_wait_ms preprocessor_pref "
        "observation_filter enable_tf1_exec_eagerly sampler_perf_stats_ema_coef num_rollout_workers "
        "num_envs_per_worker validate_workers_after_construction ignore_worker_failures recreate_failed_workers "
        "restart_failed_sub_environments num_consecutive_worker_failures_tolerance worker_health_probe_timeout_s "
        "worker_restore_timeout_s synchronize_filter enable_connectors",
        SAYS,
    ),
    **_words("environment", "env_task_fn", SAYS),
    **_words("checkpointing", "export_native_model_files", SAYS),
    **_words("debugging", "fake_sampler", SAYS),
    **_words("framework", "eager_tracing eager_max_retraces tf_session_args local_tf_session_args", SAYS),
    **_words(
        "callbacks", "on_evaluate_offline_start on_evaluate_offline_end on_offline_eval_runners_recreated", OFFLINE
    ),
    **_words(
        "evaluation",
        "offline_evaluation_interval num_offline_eval_runners offline_evaluation_type offline_eval_runner_class "
        "offline_loss_for_module_fn offline_eval_batch_size_per_runner dataset_num_iters_per_offline_eval_runner "
        "offline_eval_rl_module_inference_only num_cpus_per_offline_eval_runner num_gpus_per_offline_eval_runner "
        "custom_resources_per_offline_eval_runner offline_evaluation_timeout_s "
        "max_requests_in_flight_per_offline_eval_runner broadcast_offline_eval_runner_states "
        "validate_offline_eval_runners_after_construction restart_failed_offline_eval_runners "
        "ignore_offline_eval_runner_failures max_num_offline_eval_runner_restarts "
        "offline_eval_runner_health_probe_timeout_s offline_eval_runner_restore_timeout_s",
        OFFLINE,
    ),
    **_words(
        "evaluation",
        "off_policy_estimation_methods ope_split_batch_by_episode always_attach_evaluation_results "
        "evaluation_num_workers",
        SAYS,
    ),
    **_words(
        "fault_tolerance",
        "recreate_failed_env_runners ignore_worker_failures recreate_failed_workers max_num_worker_restarts "
        "delay_between_worker_restarts_s num_consecutive_worker_failures_tolerance worker_health_probe_timeout_s "
        "worker_restore_timeout_s",
        SAYS,
    ),
    **_words(
        "multi_agent",
        "policy_map_capacity policy_states_are_swappable observation_fn algorithm_config_overrides_per_module "
        "replay_mode policy_map_cache",
        SAYS,
    ),
    **_words(
        "offline_data",
        "input_read_sample_batches input_config actions_in_input_normalized postprocess_inputs shuffle_buffer_size "
        "output_config offline_sampling",
        SAYS,
    ),
    **_words(
        "resources",
        "num_cpus_per_worker num_gpus_per_worker custom_resources_per_worker num_learner_workers "
        "num_cpus_per_learner_worker num_gpus_per_learner_worker local_gpu_idx num_cpus_for_local_worker",
        SAYS,
    ),
    **_words("rl_module", "model_config_dict", SAYS),
    **_words(
        "training",
        "model optimizer num_aggregator_actors_per_learner max_requests_in_flight_per_aggregator_actor num_sgd_iter "
        "max_requests_in_flight_per_sampler_worker learner_class learner_connector "
        "add_default_connectors_to_learner_pipeline learner_config_dict",
        SAYS,
    ),
    (f"{ALGORITHMS}.algorithm.Algorithm.evaluate", "parallel_train_future"): OWN,
    (f"{ALGORITHMS}.algorithm.Algorithm.load_checkpoint", "checkpoint_dir"): "is called `checkpoint`",
    ("ray.rllib.core.models.catalog.Catalog", "view_requirements"): OLD,
    ("ray.rllib.core.models.catalog.Catalog.get_tokenizer_config", "view_requirements"): OLD,
    **{
        (f"ray.rllib.core.rl_module.{name}", word): "Ray has deprecated it"
        for name, word in (
            ("MultiRLModuleSpec", "module_specs"),
            ("multi_rl_module.MultiRLModuleSpec", "module_specs"),
            ("RLModuleSpec", "model_config_dict"),
            ("rl_module.RLModuleSpec", "model_config_dict"),
        )
    },
    **{
        ("ray.rllib.env.multi_agent_env_runner.MultiAgentEnvRunner.set_weights", word): OLD
        for word in ("global_vars", "weights_seq_no")
    },
    ("ray.rllib.env.wrappers.pettingzoo_env.PettingZooEnv.step", "action"): "is called `action_dict`",
    ("ray.rllib.env.wrappers.atari_wrappers.FireResetEnv.step", "ac"): "is called `action`",
    ("ray.rllib.env.wrappers.atari_wrappers.NoopResetEnv.step", "ac"): "is called `action`",
    **{
        ("ray.rllib.offline.offline_data.OfflineData.sample", word): OWN
        for word in ("return_iterator", "num_shards", "module_state")
    },
}
#: Parameters with another default here, and why.
OTHER_DEFAULTS: dict[tuple[str, str], str] = {
    ("ray.rllib.env.wrappers.atari_wrappers.MonitorEnv", "env"): "it needs one",
}
