"""A group of learners: one in this process, or ranks in actors that average their gradients."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import hpc
from hpc.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE
from hpc.rllib.core.learner import sharing
from hpc.rllib.core.learner.ranks import Done, Ranks, is_of_learners
from hpc.rllib.flow.answers import Answers
from hpc.rllib.utils.checkpoints import Checkpointable, pack, unpack

if TYPE_CHECKING:
    from pathlib import Path

    from hpc.rllib.env.fragment import Sample

T = TypeVar("T")
WEIGHTS_AFTER = "_rl_module_state_after_update"


class LearnerGroup(Checkpointable):
    """Learners of an algorithm. With ``config.num_learners=0`` one in this process, and no session is needed.

    ``update`` waits for its results. ``begin`` and ``finish`` are for those that do something else meanwhile: answers
    come through ``answers``."""

    def __init__(
        self, *, config: Any, module_spec: Any = None, placement_group: Any = None, pg_offset: int = 0
    ) -> None:
        self.config = config.copy(copy_frozen=False)
        self._module_spec = module_spec
        self.answers: Answers | None = None
        self._learner: Any = None
        self._ranks: Ranks | None = None
        self._thread: _LearnerThread | None = None
        self._lock = threading.RLock()
        """Of the local learner, which updates in a thread of its own when it is asked to begin"""
        self._next = 0
        self._is_driven = False
        self._version = 0
        self._ready: list[Done] = []
        self._begun: set[int] = set()
        """Updates of the local learner that are not done"""
        cls = self.config.learner_class
        if self.config.num_learners > 0:
            self.answers = Answers()
            spec = module_spec if module_spec is not None else self.config.get_multi_rl_module_spec()
            self._ranks = Ranks(cls, self.config, spec, placement_group, pg_offset, self.answers)
        else:
            self._learner = cls(config=self.config, module_spec=module_spec)
            self._learner.build()

    @property
    def is_remote(self) -> bool:
        """Whether the learners are actors."""
        return self._ranks is not None

    @property
    def is_local(self) -> bool:
        """Whether the learner is in this process."""
        return self._ranks is None

    def __len__(self) -> int:
        return len(self._ranks.rows) if self._ranks is not None else 0

    @property
    def weights_version(self) -> int:
        """How many updates the weights have behind them."""
        return self._version

    # -------------------------------------------------------------- updates

    def update(
        self,
        *,
        samples: Sequence[Sample] | None = None,
        batch: Mapping[str, Any] | None = None,
        episodes: Sequence[Any] | None = None,
        timesteps: Mapping[str, int] | None = None,
        async_update: bool = False,
        return_state: bool = False,
        **kwargs: Any,
    ) -> list[dict[str, Any]]:
        """Update the modules with one of these kinds of data, split over the learners. Results: one dict for each
        learner, ``{module_id: {...}, "__all_modules__": {...}}``.

        ``kwargs`` go to `Learner.update`: num_epochs, minibatch_size, shuffle_batch_per_epoch. ``async_update`` (with
        remote learners): return the results of earlier updates that are done by now. It waits while
        ``max_requests_in_flight_per_learner`` of them are not. ``return_state``: the first result
        has the weights under ``_rl_module_state_after_update``.

        Raises ValueError unless exactly one kind of data is given, and for asynchronous updates of a local learner.
        Raises what a learner raises."""
        if sum(given is not None for given in (samples, batch, episodes)) != 1:
            raise ValueError("give one of samples=, batch= and episodes= to update")
        if self._ranks is None:
            if async_update:
                raise ValueError(
                    "Can't call `update(async_update=True)` when running with `num_learners=0`! Set "
                    "`config.num_learners > 0` to allow async updates."
                )
            return [self._update_here(samples, batch, episodes, timesteps, return_state, kwargs)]
        if async_update:
            # Data of updates that wait would take more and more memory where learners are slower than their caller.
            while self._ranks.pending >= max(1, self.config.max_requests_in_flight_per_learner):
                self._read(None)
        pairs = None if samples is None else [(sample, None) for sample in samples]
        number = self.begin(
            samples=pairs, batch=batch, episodes=episodes, timesteps=timesteps, wants_weights=return_state, **kwargs
        )
        return self._results_of_earlier() if async_update else self._results_of(number)

    def _update_here(
        self, samples: Any, batch: Any, episodes: Any, timesteps: Any, return_state: bool, kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        results: dict[str, Any] = self._learner.update(
            samples=samples, batch=batch, episodes=episodes, timesteps=timesteps, **kwargs
        )
        self._version += 1
        if return_state:
            results[WEIGHTS_AFTER] = self._learner.get_weights()
        return results

    def _results_of(self, number: int) -> list[dict[str, Any]]:
        while True:
            for done in self._ready:
                if done.number == number:
                    self._ready.remove(done)
                    return _with_weights(done)
            self._read(None)

    def _results_of_earlier(self) -> list[dict[str, Any]]:
        self._read(0)
        ready, self._ready = self._ready, []
        return [result for done in ready for result in _with_weights(done)]

    def _read(self, timeout_s: float | None) -> None:
        assert self.answers is not None
        for key, value in self.answers.next(timeout_s):
            self._ready.extend(self.finish(key, value))

    def begin(
        self,
        *,
        samples: Sequence[tuple[Sample, Any]] | None = None,
        batch: Any = None,
        episodes: Sequence[Any] | None = None,
        timesteps: Mapping[str, int] | None = None,
        wants_weights: bool = True,
        **kwargs: Any,
    ) -> int:
        """Begin an update, and return its number. What answers it comes through ``answers``, and goes to `finish`.

        samples: pairs of a sample and None, or of one without fragments and the reference to those. batch: may be a
        reference, if it is trained with as a whole."""
        if self._ranks is not None and not self._ranks.pending:
            self._read_early()
        self._next += 1
        rows = sharing.rows_of(samples, batch, episodes)
        epochs, size = kwargs.get("num_epochs") or 1, kwargs.get("minibatch_size")

        def share(ranks: int) -> list[Any]:
            if samples is not None:
                return sharing.of_samples(samples, ranks)
            return sharing.of_batch(batch, ranks) if batch is not None else sharing.of_episodes(episodes or (), ranks)

        def keywords(ranks: int) -> dict[str, Any]:
            total = {} if ranks == 1 else {"num_total_minibatches": sharing.minibatches(rows, ranks, epochs, size)}
            return {**kwargs, "timesteps": dict(timesteps or {}), **total}

        if self._ranks is not None:
            self._ranks.begin(self._next, share, keywords, wants_weights)
        else:
            self._begun.add(self._next)
            self._thread_here().work.put((self._next, share(1)[0], keywords(1), wants_weights))
        return self._next

    def _read_early(self) -> None:
        """A learner that was made anew may be there: it takes part from the next update on. Where a driver of a flow
        reads the answers, it does so itself."""
        if not self._is_driven:
            self._read(0)

    def finish(self, key: Hashable, value: Any) -> list[Done]:
        """Take an answer: the updates that are done with it, in their order.

        Raises what a learner raises."""
        if self._ranks is not None:
            done = self._ranks.take(key, value) if is_of_learners(key) else []
        else:
            assert isinstance(key, tuple)
            self._begun.discard(key[3])
            if isinstance(value, Exception):
                raise value
            done = [value]
        self._version += len(done)
        return done

    @property
    def under_way(self) -> Collection[int]:
        """Numbers of updates that have begun, and have neither been done nor ended by an error."""
        return self._begun if self._ranks is None else self._ranks.under_way

    def use_answers(self, answers: Answers) -> None:
        """Have answers come through this queue, which is another one's, too."""
        self.answers, self._is_driven = answers, True
        if self._ranks is not None:
            self._ranks.answers = answers

    def _thread_here(self) -> _LearnerThread:
        if self._thread is None:
            if self.answers is None:
                self.answers = Answers()
            self._thread = _LearnerThread(self._learner, self._lock, self.answers)
            self._thread.start()
        return self._thread

    # -------------------------------------------------------------- calls

    def foreach_learner(
        self, func: Callable[..., T], *, timeout_seconds: float | None = None, **kwargs: Any
    ) -> list[T]:
        """What the function returns on each learner: ``func(learner, **kwargs)``."""
        for ours in ("healthy_only", "remote_actor_ids", "return_obj_refs", "mark_healthy"):
            kwargs.pop(ours, None)
        if self._ranks is None:
            with self._lock:
                return [func(self._learner, **kwargs)]
        return self._ranks.call(func, kwargs, timeout_seconds)

    def get_weights(self, module_ids: Collection[str] | None = None, *, inference_only: bool = False) -> dict[str, Any]:
        """Weights by module id: ``{module_id: {name: array}}``."""
        kwargs = {"module_ids": module_ids, "inference_only": inference_only}
        if self._ranks is None:
            with self._lock:
                return dict(self._learner.get_weights(**kwargs))
        return dict(hpc.get(self._ranks.call_first("get_weights", kwargs)))

    def weights_reference(self, module_ids: Collection[str] | None = None, *, inference_only: bool = False) -> Any:
        """The reference to the weights. Those of remote learners do not come through this process."""
        kwargs = {"module_ids": module_ids, "inference_only": inference_only}
        if self._ranks is None:
            return hpc.put(self.get_weights(module_ids, inference_only=inference_only))
        found = self._ranks.call_first("get_weights", kwargs)
        self._ranks.note_weights(found, None if module_ids is None else sorted(module_ids))
        return found

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Set the weights of all learners."""
        self._all("set_weights", weights=weights)
        if self._ranks is not None:
            self._ranks.note_state()

    def _all(self, method: str, **kwargs: Any) -> list[Any]:
        if self._ranks is None:
            with self._lock:
                return [getattr(self._learner, method)(**kwargs)]
        return self._ranks.call(method, kwargs)

    def add_module(
        self,
        *,
        module_id: str,
        module_spec: Any,
        config_overrides: Any = None,
        new_should_module_be_updated: Any = None,
    ) -> Any:
        """Add a module on all learners. Returns the new MultiRLModuleSpec."""
        spec = self._all(
            "add_module",
            module_id=module_id,
            module_spec=module_spec,
            config_overrides=config_overrides,
            new_should_module_be_updated=new_should_module_be_updated,
        )[0]
        self._modules_changed(spec)
        return spec

    def _modules_changed(self, spec: Any) -> None:
        """Learners that are made anew have the same modules and settings as those that are there."""
        if self._ranks is not None:
            self.config.rl_module(rl_module_spec=spec)
            self._ranks.begin_with(hpc.get(self._ranks.call_first(_config_of, {})), spec)
            self._ranks.note_state()

    def remove_module(self, module_id: str, *, new_should_module_be_updated: Any = None) -> Any:
        """Remove a module on all learners. Returns the new MultiRLModuleSpec."""
        spec = self._all(
            "remove_module", module_id=module_id, new_should_module_be_updated=new_should_module_be_updated
        )[0]
        self._modules_changed(spec)
        return spec

    def get_stats(self) -> dict[str, Any]:
        """Counts for results. Nothing is dropped: runners wait for learners."""
        return {
            "learner_group_ts_dropped_lifetime": 0,
            "actor_manager_num_outstanding_async_reqs": self._ranks.pending if self._ranks is not None else 0,
            "num_learners_died_lifetime": self._ranks.died if self._ranks is not None else 0,
        }

    def shutdown(self) -> None:
        """End the learners."""
        if self._thread is not None:
            self._thread.work.put(None)
            self._thread.join()
            self._thread = None
        if self._learner is not None:
            self._learner.shutdown()
        if self._ranks is not None and hpc.is_initialized():
            self._ranks.end()

    # -------------------------------------------------------------- state

    def get_state(
        self,
        components: str | Collection[str] | None = None,
        *,
        not_components: str | Collection[str] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """``{"learner": state}``: of one learner, since all are equal but for their random numbers."""
        if not self._check_component(COMPONENT_LEARNER, components, not_components):
            return {}
        arguments = {
            "components": self._get_subcomponents(COMPONENT_LEARNER, components),
            "not_components": self._get_subcomponents(COMPONENT_LEARNER, not_components),
            **kwargs,
        }
        if self._ranks is None:
            with self._lock:
                return {COMPONENT_LEARNER: self._learner.get_state(**arguments)}
        return {COMPONENT_LEARNER: hpc.get(self._ranks.call_first("get_state", arguments))}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Set the state of all learners."""
        if COMPONENT_LEARNER in state:
            self._all("set_state", state=state[COMPONENT_LEARNER])
            self._note_version()

    def _note_version(self) -> None:
        self._version = int(self.foreach_learner(_version_of)[0])
        if self._ranks is not None:
            self._ranks.note_state()

    def get_ctor_args_and_kwargs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The configuration, and the modules' spec."""
        return (), {"config": self.config, "module_spec": self._module_spec}

    def get_checkpointable_components(self) -> list[tuple[str, Any]]:
        """The learner, or one of them for all."""
        return [(COMPONENT_LEARNER, self._learner if self._ranks is None else _LearnerOfAll(self._ranks))]

    def restore_from_path(self, path: str | Path, **kwargs: Any) -> None:
        """Take up a checkpoint, or a part of it."""
        super().restore_from_path(path, **kwargs)
        self._note_version()

    def load_module_state(
        self,
        *,
        multi_rl_module_ckpt_dir: str | None = None,
        modules_to_load: Collection[str] | None = None,
        rl_module_ckpt_dirs: Mapping[str, str] | None = None,
    ) -> None:
        """Load weights from directories: of all modules, of some of them, or each of its own.

        Raises ValueError if none is given, or modules are named without the directory of all."""
        if not (multi_rl_module_ckpt_dir or rl_module_ckpt_dirs):
            raise ValueError("load_module_state needs multi_rl_module_ckpt_dir= or rl_module_ckpt_dirs=")
        if modules_to_load and not multi_rl_module_ckpt_dir:
            raise ValueError("`modules_to_load` can only be specified if a multi_rl_module_ckpt_dir is provided.")
        prefix = f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}"
        if multi_rl_module_ckpt_dir and modules_to_load is None:
            self.restore_from_path(multi_rl_module_ckpt_dir, component=prefix)
        each = {name: f"{multi_rl_module_ckpt_dir}/{name}" for name in modules_to_load or ()}
        for name, path in {**each, **(rl_module_ckpt_dirs or {})}.items():
            self.restore_from_path(path, component=f"{prefix}/{name}")


class _LearnerOfAll:
    """What a checkpoint takes for the learner where there are many: it is read from one, and given to all."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks

    def save_to_path(self, path: Any, *, state: Any = None, **kwargs: Any) -> str:
        """Write the first learner's files here."""
        unpack(hpc.get(self._ranks.call_first(pack, {"state": state})), path)
        return str(path)

    def restore_from_path(self, path: Any, **kwargs: Any) -> None:
        """Give all learners the files from here."""
        self._ranks.call(_restore, {"files": hpc.put(_files(path)), **kwargs})


def _files(path: Any) -> dict[str, bytes]:
    from pathlib import Path as Folder

    root = Folder(path)
    return {str(one.relative_to(root)): one.read_bytes() for one in root.rglob("*") if one.is_file()}


def _restore(learner: Any, files: Any, **kwargs: Any) -> None:
    import shutil
    import tempfile

    folder = tempfile.mkdtemp(prefix="hpc-checkpoint-")
    try:
        unpack(hpc.get(files), folder)
        learner.restore_from_path(folder, **kwargs)
    finally:
        shutil.rmtree(folder)


def _config_of(learner: Any) -> Any:
    return learner.config


def _version_of(learner: Any) -> int:
    return int(getattr(learner, "_weights_seq_no", 0))


def _with_weights(done: Done) -> list[dict[str, Any]]:
    if done.weights is not None:
        done.results[0][WEIGHTS_AFTER] = hpc.get(done.weights)
    return done.results


class _LearnerThread(threading.Thread):
    """The local learner's updates, beside the thread that asks runners for samples."""

    def __init__(self, learner: Any, lock: threading.RLock, answers: Answers) -> None:
        super().__init__(name="hpc-rllib-learner", daemon=True)
        self.work: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._learner, self._lock, self._answers = learner, lock, answers

    def run(self) -> None:
        """Update until None comes."""
        while (work := self.work.get()) is not None:
            number, share, kwargs, wants_weights = work
            try:
                data = share.open()
                with self._lock:
                    results = self._learner.update(**data, **kwargs)
                    weights = hpc.put(self._learner.get_weights(inference_only=True)) if wants_weights else None
                answer: Any = Done(number, [results], weights)
            except Exception as error:  # it is raised where the answer is taken
                answer = error
            self._answers.tell(("learner", 0, 0, number), answer)
