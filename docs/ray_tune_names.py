"""What becomes of Ray's public names of hyperparameter search; docs/generate_tune.py makes the table in tune.md of it.

The names, their parameters and defaults are recorded by tests/compat/names.py. A name without a remark is here under
the same path, with these parameters and defaults; tests/compat/test_public_names.py holds that.
"""

from __future__ import annotations

OWN = "serves Ray's own code"
PLACE = "the names are in"
MOVED = "is deprecated in Ray"

#: Names that exist and do less, or something else, than Ray's.
DIFFERS: dict[str, str] = {
    "ray.tune.Tuner": "an experiment whose name is there goes on",
    "ray.tune.Tuner.fit": "raises Drained, a SystemExit, when the session ends before the experiment",
    "ray.tune.TuneContext": "getters of ranks raise RuntimeError; `should_checkpoint()` is ours",
    "ray.tune.SyncConfig": "`sync_period` and `sync_timeout` have no effect: trials store their files themselves",
    "ray.tune.PlacementGroupFactory": "of one bundle it is an actor with these resources, and no placement group",
    "ray.tune.run_experiments": "one after the other",
    "ray.tune.register_env": "the names are for `hpc.tune.registry.env_creator_of` alone: there is no rllib",
    "ray.tune.search.SearchAlgorithm": "subclasses have `suggest_next` in place of `next_trial`",
    "ray.tune.search.hebo.HEBOSearch": "raises NotImplementedError: its library is not maintained",
    "ray.tune.search.zoopt.ZOOptSearch": "raises NotImplementedError: its library is not maintained",
    "ray.tune.schedulers.pb2.PB2": "its model is of the latest 200 intervals, and another one than Ray's",
    "ray.tune.search.bohb.TuneBOHB": "our own densities: neither hpbandster nor ConfigSpace is needed",
    "ray.tune.integration.xgboost.TuneReportCheckpointCallback": "tried with xgboost 3",
    "ray.tune.integration.lightgbm.TuneReportCheckpointCallback": "tried with lightgbm 4",
    "ray.tune.integration.pytorch_lightning.TuneReportCheckpointCallback": "tried with a stand-in for lightning",
}

#: Names that do not exist, and why. One of a module or class holds for what is in it.
NO: dict[str, str] = {
    "ray.tune.automl": "is empty in Ray",
    "ray.tune.cli": "`hpc tune export` writes files; ExperimentAnalysis reads an experiment",
    "ray.tune.constants": OWN,
    "ray.tune.examples": "the repository has examples",
    "ray.tune.experimental": "what is shown by default is `hpc.tune.reporter.output`",
    "ray.tune.experiment.config_parser": OWN,
    "ray.tune.experiment.experiment": f"{PLACE} `hpc.tune.experiment`",
    "ray.tune.experiment.trial.ExportFormat": "`export_model` takes any text as a format",
    "ray.tune.impl": OWN,
    "ray.tune.integration.keras": "there is no adapter: call `tune.report` in a callback of your own",
    "ray.tune.integration.lightgbm.TuneReportCallback": MOVED,
    "ray.tune.integration.xgboost.TuneReportCallback": MOVED,
    "ray.tune.integration.pytorch_lightning.TuneReportCallback": MOVED,
    "ray.tune.progress_reporter.RemoteReporterMixin": "reporters run in the driver",
    "ray.tune.progress_reporter.TrialProgressCallback": "`RunConfig(verbose=2)` shows each report",
    "ray.tune.registry.register_input": "there is no rllib",
    "ray.tune.registry.registry_contains_input": "there is no rllib",
    "ray.tune.registry.registry_get_input": "there is no rllib",
    "ray.tune.registry.validate_trainable": "a Tuner looks at its trainable before anything runs",
    "ray.tune.resources": "`PlacementGroupFactory` is the room of a trial; Ray has deprecated these",
    "ray.tune.schedulers.pb2.import_pb2_dependencies": "PB2 raises ImportError where scikit-learn is missing",
    "ray.tune.schedulers.util": OWN,
    "ray.tune.search.UNDEFINED_METRIC_MODE": "is a text of Ray's errors",
    "ray.tune.search.UNDEFINED_SEARCH_SPACE": "is a text of Ray's errors",
    "ray.tune.search.UNRESOLVED_SEARCH_SPACE": "is a text of Ray's errors",
    "ray.tune.search.ax.ax_search": f"{PLACE} `hpc.tune.search.ax`",
    "ray.tune.search.bayesopt.bayesopt_search": f"{PLACE} `hpc.tune.search.bayesopt`",
    "ray.tune.search.bohb.BOHB": "is hpbandster's class, which is not used",
    "ray.tune.search.bohb.bohb_search": f"{PLACE} `hpc.tune.search.bohb`",
    "ray.tune.search.hebo.hebo_search": f"{PLACE} `hpc.tune.search.hebo`",
    "ray.tune.search.hyperopt.hyperopt_search": f"{PLACE} `hpc.tune.search.hyperopt`",
    "ray.tune.search.nevergrad.nevergrad_search": f"{PLACE} `hpc.tune.search.nevergrad`",
    "ray.tune.search.optuna.optuna_search": f"{PLACE} `hpc.tune.search.optuna`",
    "ray.tune.search.zoopt.zoopt_search": f"{PLACE} `hpc.tune.search.zoopt`",
    "ray.tune.search.sample.BaseSampler": "`Sampler` is the base of all",
    "ray.tune.search.searcher.ConcurrencyLimiter": f"{PLACE} `hpc.tune.search`",
    "ray.tune.search.util": OWN,
    **{
        f"ray.tune.stopper.{name}": f"{PLACE} `hpc.tune.stopper`"
        for name in (
            "experiment_plateau", "function_stopper", "maximum_iteration", "noop", "stopper", "timeout", "trial_plateau"
        )
    },
    "ray.tune.syncer": f"{PLACE} `hpc.tune`",
    "ray.tune.trainable.with_parameters": f"{PLACE} `hpc.tune`",
    "ray.tune.trainable.function_trainable": f"{PLACE} `hpc.tune.trainable`",
    "ray.tune.trainable.metadata": OWN,
    "ray.tune.trainable.trainable": f"{PLACE} `hpc.tune.trainable`",
    "ray.tune.trainable.trainable_fn_utils": OWN,
    "ray.tune.trainable.util": f"{PLACE} `hpc.tune`",
    "ray.tune.tune": f"{PLACE} `hpc.tune`",
    "ray.tune.tune_config": f"{PLACE} `hpc.tune`",
    "ray.tune.utils": f"{OWN}; `hpc.util.inspect_serializability` says what cannot be pickled",
}  # fmt: skip

DRAWN = "the searcher takes the space as it is"
TOLD = "the journal of the experiment keeps its state"
#: Classes that lack some of the methods and attributes that Ray's have, and why.
MEMBERS: dict[str, str] = {
    "ray.tune.Experiment": "it is given to `tune.run`, and not looked into",
    "ray.tune.Trainable": "they serve Ray's runner",
    "ray.tune.TuneConfig": "Ray has deprecated it",
    "ray.tune.TuneContext": "raises DeprecationWarning in Ray",
    "ray.tune.callback.CallbackList": OWN,
    "ray.tune.experiment.Trial": "only the engine changes a trial, and it keeps no copy of the settings",
    "ray.tune.logger.TBXLoggerCallback": "is a list of types",
    "ray.tune.logger.aim.AimLoggerCallback": "is a list of types",
    "ray.tune.progress_reporter.TuneReporterBase": "`setup` tells them",
    "ray.tune.schedulers.PopulationBasedTraining": "are for Ray's own tests",
    "ray.tune.search.BasicVariantGenerator": TOLD,
    "ray.tune.search.SearchAlgorithm": TOLD,
    "ray.tune.search.SearchGenerator": TOLD,
    "ray.tune.search.ax.AxSearch": DRAWN,
    "ray.tune.search.bayesopt.BayesOptSearch": DRAWN,
    "ray.tune.search.bohb.TuneBOHB": DRAWN,
    "ray.tune.search.hebo.HEBOSearch": DRAWN,
    "ray.tune.search.hyperopt.HyperOptSearch": DRAWN,
    "ray.tune.search.nevergrad.NevergradSearch": DRAWN,
    "ray.tune.search.zoopt.ZOOptSearch": DRAWN,
    "ray.tune.trainable.FunctionTrainable": "the function runs in `step`",
}

DEPRECATED = "Ray has deprecated it"
FORMATS = "call `export_model` in the trial"
GO_ON = "a trainable loads what it begins with"
ENGINE = "trials are made by the engine"
BASE = "the base of a logarithm does not change what is drawn"
OLD = ("keep_checkpoints_num", "checkpoint_score_attr", "checkpoint_freq", "checkpoint_at_end", "chdir_to_trial_dir")
MADE = (
    "storage", "stopping_criterion", "checkpoint_config", "export_formats", "restore_path", "trial_name_creator",
    "trial_dirname_creator", "log_to_file", "max_failures", "stub",
)  # fmt: skip
#: Parameters of names that exist which are not taken, and why.
NOT_TAKEN: dict[tuple[str, str], str] = {
    **{("ray.tune.run", word): DEPRECATED for word in (*OLD, "local_dir")},
    ("ray.tune.run", "export_formats"): FORMATS,
    ("ray.tune.run", "restore"): GO_ON,
    ("ray.tune.Experiment", "local_dir"): DEPRECATED,
    ("ray.tune.Experiment", "export_formats"): FORMATS,
    ("ray.tune.Experiment", "restore"): GO_ON,
    ("ray.tune.RunConfig", "local_dir"): DEPRECATED,
    ("ray.tune.TuneConfig", "chdir_to_trial_dir"): DEPRECATED,
    **{("ray.tune.experiment.Trial", word): ENGINE for word in MADE},
    ("ray.tune.search.sample.LogUniform", "base"): BASE,
    ("ray.tune.search.sample.Float.loguniform", "base"): BASE,
    ("ray.tune.search.sample.Integer.loguniform", "base"): BASE,
    ("ray.tune.schedulers.HyperBandForBOHB.choose_trial_to_run", "allow_recurse"): OWN,
}
#: Parameters with other names here: the runner gives them by their position.
BY_POSITION = frozenset(("tune_controller", "checkpoint_result"))
#: Parameters with another default here, and why.
OTHER_DEFAULTS: dict[tuple[str, str], str] = {
    **{
        ("ray.tune.RunConfig", word): "a new one, which None stands for in Ray"
        for word in ("failure_config", "checkpoint_config", "sync_config")
    },
    ("ray.tune.experiment.Trial", "trial_id"): ENGINE,
    ("ray.tune.trainable.FunctionTrainable.save_checkpoint", "checkpoint_dir"): OWN,
}
