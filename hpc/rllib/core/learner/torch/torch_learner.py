"""TorchLearner: gradients by torch, fused optimizers, and no wait for a number inside of an update."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hpc.rllib.core import ALL_MODULES, Columns
from hpc.rllib.core.learner.batches import Batch, Minibatches
from hpc.rllib.core.learner.learner import Learner, ParamDict
from hpc.rllib.core.learner.torch.adam import FastAdam
from hpc.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from hpc.rllib.core.rl_module.multi_rl_module import MultiRLModule
from hpc.rllib.core.rl_module.rl_module import RLModule
from hpc.rllib.utils.metrics import NUM_NON_TRAINABLE_PARAMETERS, NUM_TRAINABLE_PARAMETERS
from hpc.rllib.utils.threads import limited_threads
from hpc.rllib.utils.trees import concatenate, leaves, map_tree

#: Rows per pass when values of a fragment are computed.
VALUES_AT_ONCE = 8192


class TorchLearner(Learner):
    """A learner of torch modules. Algorithms define ``compute_loss_for_module``."""

    framework = "torch"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        scaler = getattr(self.config, "_torch_grad_scaler_class", None)
        self._grad_scalers: dict[str, Any] | None = defaultdict(scaler) if scaler else None
        self._lr_scheduler_classes = getattr(self.config, "_torch_lr_scheduler_classes", None)
        self._lr_schedulers: dict[str, list[Any]] = {}
        self._random_state: Tensor | None = None
        self._cuda_random_state: Tensor | None = None
        self._update_function = self._uncompiled_update
        self._parameter_counts: dict[tuple[str, str], int] | None = None

    # building

    def build(self) -> None:
        if self._is_built:
            return
        if self._device is None:
            self._device = torch.device("cuda", self._gpu_index()) if self._wants_gpu() else torch.device("cpu")
        self._seed()
        super().build()
        self._seed_updates()
        self._compile()

    def _wants_gpu(self) -> bool:
        if not self.config.num_gpus_per_learner:
            return False
        if not torch.cuda.is_available():
            raise RuntimeError(
                f"num_gpus_per_learner is {self.config.num_gpus_per_learner}, but torch finds no GPU in this process: "
                "set it to 0 in config.learners(), or set num_learners to 1 so that the learner runs where a GPU is"
            )
        return True

    def _seed(self) -> None:
        seed = self.config.seed
        generator = torch.Generator()
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        self._random_state = generator.get_state()

    def _seed_updates(self) -> None:
        """All ranks build the same modules of one seed, but shuffle and draw differently afterwards."""
        if self._learner_index and self.config.seed is not None:
            seed = int(np.random.SeedSequence([self.config.seed, self._learner_index]).generate_state(1)[0])
            self._random_state = torch.Generator().manual_seed(seed).get_state()

    def _gpu_index(self) -> int:
        """Of the GPU that learns: an actor sees its own only, and in the user's process the configuration says it."""
        if self.config.num_learners:
            return torch.cuda.current_device()
        index, count = self.config.local_gpu_idx, torch.cuda.device_count()
        if index >= count:
            raise ValueError(
                f"local_gpu_idx {index} is not available: this process sees {count} GPUs, of which the first is 0"
            )
        return int(index)

    def _compile(self) -> None:
        if not getattr(self.config, "torch_compile_learner", False):
            return
        backend, mode = self.config.torch_compile_learner_dynamo_backend, self.config.torch_compile_learner_dynamo_mode
        if self.config.torch_compile_learner_what_to_compile == "complete_update":
            self._update_function = torch.compile(self._uncompiled_update, backend=backend, mode=mode)
            return
        for module in self.module.values():
            own: Any = module.unwrapped()
            own._forward_train = torch.compile(own._forward_train, backend=backend, mode=mode)

    def _make_module(self) -> MultiRLModule:
        module = super()._make_module()
        for one in module.values():
            self._place(one)
        return module

    def _place(self, module: RLModule) -> None:
        if isinstance(module, nn.Module):
            module.to(self._device)

    def configure_optimizers_for_module(self, module_id: str, config: Any = None) -> None:
        """One Adam over all parameters of the module, with the config's learning rate."""
        params = self.get_parameters(self.module[module_id])
        if params:
            optimizer = FastAdam(params)
            self.register_optimizer(
                module_id=module_id, optimizer=optimizer, params=params, lr_or_lr_schedule=config.lr
            )

    def rl_module_is_compatible(self, module: RLModule) -> bool:
        return isinstance(module, nn.Module) and super().rl_module_is_compatible(module)

    def get_param_ref(self, param: Any) -> Hashable:
        return param

    def get_parameters(self, module: Any) -> list[Any]:
        return [parameter for parameter in module.parameters() if parameter.requires_grad]

    def _check_registered_optimizer(self, optimizer: Any, params: Sequence[Any]) -> None:
        super()._check_registered_optimizer(optimizer, params)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(f"a TorchLearner's optimizer is a torch.optim.Optimizer, not {type(optimizer).__name__}")
        for param in params:
            if not isinstance(param, torch.Tensor):
                raise ValueError(f"a TorchLearner's parameters are tensors, not {type(param).__name__}")

    @staticmethod
    def _get_optimizer_lr(optimizer: Any) -> float:
        return float(optimizer.param_groups[0]["lr"])

    @staticmethod
    def _set_optimizer_lr(optimizer: Any, lr: float) -> None:
        for group in optimizer.param_groups:
            group["lr"] = lr

    def _get_tensor_variable(self, value: Any, dtype: Any = None, trainable: bool = False) -> Any:
        """A number as a tensor on the learner's device, or as a parameter."""
        kinds = {float: torch.float32, int: torch.int32}
        tensor = torch.tensor(value, device=self._device, dtype=dtype or kinds.get(type(value)))
        return nn.Parameter(tensor) if trainable else tensor

    def _modules_changed(self, *args: Any) -> Any:
        self._parameter_counts = None
        return super()._modules_changed(*args)

    def _log_trainable_parameters(self) -> None:
        if self._parameter_counts is None:
            self._parameter_counts = self._count_parameters()
        for key, count in self._parameter_counts.items():
            self.metrics.log_value(key, count, window=1)

    def _count_parameters(self) -> dict[tuple[str, str], int]:
        """Numbers of parameters by key; a walk over all, which only a change of modules needs."""
        counts: dict[tuple[str, str], int] = defaultdict(int)
        for module_id, module in self.module.items():
            for parameter in module.parameters() if isinstance(module, nn.Module) else ():
                kind = NUM_TRAINABLE_PARAMETERS if parameter.requires_grad else NUM_NON_TRAINABLE_PARAMETERS
                counts[module_id, kind] += parameter.numel()
                counts[ALL_MODULES, kind] += parameter.numel()
        counts[ALL_MODULES, NUM_NON_TRAINABLE_PARAMETERS] += 0
        return dict(counts)

    # update

    def _update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        return self._update_function(batch, **kwargs)

    def _uncompiled_update(self, batch: dict[str, Any], **kwargs: Any) -> tuple[Any, Any, Any]:
        fwd_out = self.module.forward_train(batch)
        losses = self.compute_losses(fwd_out=fwd_out, batch=batch)
        gradients = self.compute_gradients(losses)
        self.apply_gradients(self.postprocess_gradients(gradients))
        return fwd_out, losses, {}

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> ParamDict:
        for param in self._params.values():
            param.grad = None
        scalers = self._grad_scalers
        losses = [loss if scalers is None else scalers[mid].scale(loss) for mid, loss in loss_per_module.items()]
        losses = [loss for loss in losses if isinstance(loss, Tensor) and loss.grad_fn is not None]
        if losses:
            (losses[0] if len(losses) == 1 else torch.stack(losses).sum()).backward()
        if self.reduce_gradients is not None:
            self._reduce()
        if scalers is not None:
            # Clipping and averages are of gradients without the factor.
            for module_id in loss_per_module:
                for _, optimizer in self.get_optimizers_for_module(module_id):
                    scalers[module_id].unscale_(optimizer)
        return {ref: param.grad for ref, param in self._params.items()}

    def _reduce(self) -> None:
        """Average over the ranks, in one buffer with all gradients; one that another rank has counts as zero here.

        One that no rank has stays missing: by a gradient of zero Adam would move a module that is not trained now.
        """
        params = list(self._params.values())
        sizes = [param.numel() for param in params]
        zeros = torch.zeros(max(sizes), device=self._device)
        parts = [zeros[:n] if p.grad is None else p.grad.reshape(-1) for p, n in zip(params, sizes)]
        there = [float(param.grad is not None) for param in params]
        flat = torch.cat([*parts, torch.tensor(there, device=self._device)])
        assert self.reduce_gradients is not None
        self.reduce_gradients(flat)
        *parts, shares = torch.split(flat, [*sizes, len(params)])
        found = there if all(there) else shares.tolist()
        for param, part, share in zip(params, parts, found):
            param.grad = part.view_as(param) if share > 0 else None

    def _clip(self, gradients: ParamDict, config: Any) -> Any:
        tensors = list(gradients.values())
        by, bound = config.grad_clip_by, config.grad_clip
        if not tensors:
            return None
        norm = self._norm(tensors) if bound is None or by == "global_norm" or config.log_gradients else None
        if not bound:
            return norm
        if by == "value":
            torch._foreach_clamp_min_(tensors, -bound)
            torch._foreach_clamp_max_(tensors, bound)
        elif by == "norm":
            scales = [(bound / (n + 1e-6)).clamp(max=1.0) for n in torch._foreach_norm(tensors)]
            torch._foreach_mul_(tensors, scales)
        elif by == "global_norm":
            assert norm is not None
            torch._foreach_mul_(tensors, (bound / (norm + 1e-6)).clamp(max=1.0))
        else:
            raise ValueError(f'grad_clip_by is "value", "norm" or "global_norm", not {by!r}')
        return norm

    @staticmethod
    def _norm(tensors: list[Tensor]) -> Tensor:
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))

    def apply_gradients(self, gradients_dict: ParamDict) -> None:
        for ref, gradient in gradients_dict.items():
            self._params[ref].grad = gradient
        skips = self.config.torch_skip_nan_gradients
        for module_id, names in self._module_optimizers.items():
            for name in names:
                optimizer = self._named_optimizers[name]
                if skips and not self._gradients_are_finite(module_id, optimizer):
                    continue
                if self._grad_scalers is None:
                    optimizer.step()
                elif any(self._params[ref].grad is not None for ref in self._optimizer_parameters[optimizer]):
                    self._grad_scalers[module_id].step(optimizer)
                if self._lr_scheduler_classes is not None and name not in self._lr_schedulers:
                    self._lr_schedulers[name] = self._make_lr_schedulers(module_id, optimizer)
        for module_id, scaler in (self._grad_scalers or {}).items():
            self.metrics.log_value((module_id, "_torch_grad_scaler_current_scale"), scaler.get_scale(), window=1)
            scaler.update()

    def _gradients_are_finite(self, module_id: str, optimizer: Any) -> bool:
        gradients = [self._params[ref].grad for ref in self._optimizer_parameters[optimizer]]
        gradients = [gradient for gradient in gradients if gradient is not None]
        if not gradients or math.isfinite(self._norm(gradients).item()):
            return True
        self.metrics.log_value((module_id, "num_skipped_updates_lifetime"), 1, reduce="lifetime_sum")
        return False

    def _make_lr_schedulers(self, module_id: str, optimizer: Any) -> list[Any]:
        classes = self._lr_scheduler_classes
        chosen = classes.get(module_id, []) if isinstance(classes, dict) else classes
        return [make(optimizer) for make in chosen or ()]

    def _restore_lr_schedulers(self, name: str, states: Any) -> None:
        """Have torch's schedulers of an optimizer go on where they were; the optimizer has its saved state."""
        optimizer = self._named_optimizers[name]
        saved = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        made = self._make_lr_schedulers(self._optimizer_name_to_module[name], optimizer)
        if len(made) != len(states):
            raise ValueError(
                f"optimizer {name!r} was saved with {len(states)} schedulers, and has {len(made)} now: set "
                "_torch_lr_scheduler_classes in config.experimental() as it was"
            )
        for scheduler, state in zip(made, states):
            scheduler.load_state_dict(state)
        for group, settings in zip(optimizer.param_groups, saved):
            # A new scheduler takes the rate of now for the first one, and moves it.
            group.update(settings)
        self._lr_schedulers[name] = made

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        if self._lr_schedulers:
            # torch's schedulers move the rates: the config's schedule would undo it.
            self._optimizer_lr_schedules.clear()
            for schedulers in self._lr_schedulers.values():
                for scheduler in schedulers:
                    scheduler.step()
        super().after_gradient_based_update(timesteps=timesteps)

    def _minibatches(
        self, train: dict[str, Batch], epochs: int, size: int | None, shuffle: bool, total: int
    ) -> Iterable[dict[str, Batch]]:
        if not train:
            # A rank without rows takes part in the average of gradients all the same.
            return [{} for _ in range(total)]
        axis = 1 if self.batch_layout == "fragments" else 0
        return Minibatches(
            train,
            epochs=epochs,
            size=size,
            total=total,
            permutation=(lambda n: torch.randperm(n).to(self._device)) if shuffle else None,
            cat=lambda parts: torch.cat(parts, dim=axis),
            axis=axis,
        )

    @staticmethod
    def _count(rows: Batch) -> int:
        mask = rows.get(Columns.LOSS_MASK)
        if isinstance(mask, Tensor):
            return mask.numel()
        first: Tensor = next(leaves(rows))
        return int(first.shape[0])

    def _check_finite(self, losses: dict[str, Any]) -> None:
        # A loss that is not finite made a step that was left out, where the config says so.
        skips = self.config.torch_skip_nan_gradients
        for module_id, loss in () if skips else losses.items():
            if isinstance(loss, Tensor) and not math.isfinite(loss.item()):
                raise ValueError(f"the loss of module {module_id!r} is {loss.item()}.{self._what_to_do()}")
        # One NaN makes the norm NaN: one number tells for all weights.
        weights = [param.detach() for param in self._params.values()]
        if weights and not math.isfinite(self._norm(weights).item()):
            self._raise_not_finite()

    def _raise_not_finite(self) -> None:
        for module_id, module in self.module.items():
            named = module.named_parameters() if isinstance(module, nn.Module) else ()
            wrong = [name for name, parameter in named if not torch.isfinite(parameter).all()]
            if wrong:
                raise ValueError(
                    f"weights of module {module_id!r} are not finite after an update: {wrong}. A gradient was not "
                    f"finite.{self._what_to_do()}"
                )
        raise ValueError(f"parameters of an optimizer are not finite after an update.{self._what_to_do()}")

    @staticmethod
    def _what_to_do() -> str:
        return (
            " Look for NaN or huge numbers in observations and rewards, lower lr, or set grad_clip; "
            "config.framework(torch_skip_nan_gradients=True) leaves such steps out. Restore from a checkpoint to go on"
        )

    # tensors

    def _tensors(self, batch: Batch) -> Batch:
        return {name: map_tree(self._tensor, column) for name, column in batch.items() if _has_numbers(column)}

    def _tensor(self, leaf: Any) -> Tensor:
        if not isinstance(leaf, Tensor):
            leaf = torch.from_numpy(np.require(leaf, requirements=["W", "C"]))
        if leaf.dtype in (torch.float64, torch.float16):
            leaf = leaf.float()
        return leaf.to(self._device, non_blocking=True)

    def values_of_fragment(self, module_id: str, fragment: Any, *, written: dict[str, Any] | None = None) -> np.ndarray:
        """Values [T + 1, N] of a fragment's observations by the module as it is now.

        written: takes what a user's compute_values wrote into its batch, as columns [T + 1, N, ...]. RLlib trains on
        the batch that was valued, and modules that take masks out of their observations count on it.
        """
        module: Any = self.module[module_id].unwrapped()
        stateful = module.is_stateful()
        if not isinstance(module, ValueFunctionAPI):
            raise ValueError(f"module {module_id!r} has no value function: it must be a ValueFunctionAPI")
        found: list[Batch] = []
        shape = (fragment.rows + 1, fragment.width)
        with torch.no_grad():
            if stateful:
                values = self._stateful_values(module, fragment, found)
            else:
                obs = map_tree(lambda leaf: leaf.reshape((-1, *leaf.shape[2:])), fragment[Columns.OBS])
                parts = []
                for at in range(0, shape[0] * shape[1], VALUES_AT_ONCE):
                    part = map_tree(lambda leaf, at=at: self._tensor(leaf[at : at + VALUES_AT_ONCE]), obs)
                    parts.append(self._valued(module, {Columns.OBS: part}, found))
                values = np.concatenate(parts).reshape(shape)
        if written is not None:
            for name in [name for name in found[0] if all(name in one for one in found)]:
                column = concatenate([one[name] for one in found])
                written[name] = map_tree(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), column)
        return values

    @staticmethod
    def _valued(module: Any, batch: Batch, found: list[Batch] | None = None, time: bool = False) -> np.ndarray:
        """Values of a batch, one for each row; ``found`` gets the columns that the module has written into it."""
        given = dict(batch)
        values = module.compute_values(batch)

        def array(leaf: Tensor) -> np.ndarray:
            return (leaf[:, 0] if time else leaf).cpu().numpy()

        if found is not None:
            new = {name: column for name, column in batch.items() if given.get(name) is not column}
            found.append({name: map_tree(array, column) for name, column in new.items() if _are_tensors(column)})
        return array(values)

    def _stateful_values(self, module: Any, fragment: Any, found: list[Batch]) -> np.ndarray:
        """Row by row from the states that the runner had before each.

        What the last step of a piece led to is valued from the state after that step: the row after it may be padding.
        """
        mask = fragment.loss_mask

        def batch_of(row: int, columns: Any = slice(None), state: Any = None) -> Batch:
            def pick(leaf: np.ndarray) -> Tensor:
                return self._tensor(leaf[row][columns])

            obs = map_tree(lambda leaf: pick(leaf)[:, None], fragment[Columns.OBS])
            return {Columns.OBS: obs, Columns.STATE_IN: state or map_tree(pick, fragment[Columns.STATE_IN])}

        def after(row: int, columns: Any = slice(None)) -> Any:
            return module.forward_inference(batch_of(row, columns))[Columns.STATE_OUT]

        rows = fragment.rows
        values = np.zeros((rows + 1, fragment.width), np.float32)
        for row in range(rows):
            values[row] = self._valued(module, batch_of(row), found, time=True)
            ended = np.flatnonzero(mask[row - 1] & ~mask[row]) if row else ()
            if len(ended):
                values[row, ended] = self._valued(module, batch_of(row, ended, after(row - 1, ended)), time=True)
        values[rows] = self._valued(module, batch_of(rows, state=after(rows - 1)), found, time=True)
        return values

    # state

    def _get_optimizer_state(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, optimizer in self._named_optimizers.items():
            state = _to_numpy(optimizer.state_dict())
            found[name] = {"module_id": self._optimizer_name_to_module[name], "state": state}
            if name in self._lr_schedulers:
                found[name]["lr_schedulers"] = [one.state_dict() for one in self._lr_schedulers[name]]
        return found

    def _set_optimizer_state(self, state: dict[str, Any]) -> None:
        for name, given in state.items():
            optimizer = self._named_optimizers.get(name)
            if optimizer is None:
                continue
            optimizer.load_state_dict(_to_tensors(given["state"]))
            # A state of before the first update has none: they are made anew by the next one.
            self._lr_schedulers.pop(name, None)
            if self._lr_scheduler_classes is not None and "lr_schedulers" in given:
                self._restore_lr_schedulers(name, given["lr_schedulers"])
            scheduler = self._optimizer_lr_schedules.get(optimizer)
            if scheduler is not None and not scheduler.use_schedule and self._lr_scheduler_classes is None:
                # A fixed rate is the configuration's, which may have changed since the state was saved.
                self._set_optimizer_lr(optimizer, lr=scheduler.get_current_value())

    def _get_random_state(self) -> dict[str, Any]:
        states = {"cpu": self._random_state, "cuda": self._cuda_random_state}
        return {kind: state.numpy() for kind, state in states.items() if state is not None}

    def _set_random_state(self, state: dict[str, Any]) -> None:
        if not state:
            return
        self._random_state = torch.from_numpy(np.array(state["cpu"]))
        if "cuda" in state:
            self._cuda_random_state = torch.from_numpy(np.array(state["cuda"]))

    @contextmanager
    def _own_random(self) -> Iterator[None]:
        """torch's global generators and number of threads are this learner's within, and then what they were."""
        with limited_threads(self._threads()), self._own_generators():
            yield

    def _threads(self) -> int:
        """Threads of the CPU that compute: as many as the config gives the learner, if it gives a number."""
        count = self.config.num_cpus_per_learner
        return max(1, int(count)) if isinstance(count, (int, float)) else 1

    @contextmanager
    def _own_generators(self) -> Iterator[None]:
        on_gpu = self._device is not None and self._device.type == "cuda"
        before = torch.get_rng_state()
        before_cuda = torch.cuda.get_rng_state(self._device) if on_gpu else None
        if self._random_state is not None:
            torch.set_rng_state(self._random_state)
        if on_gpu and self._cuda_random_state is not None:
            torch.cuda.set_rng_state(self._cuda_random_state, self._device)
        elif on_gpu:
            torch.cuda.manual_seed(torch.initial_seed())
        try:
            yield
        finally:
            self._random_state = torch.get_rng_state()
            torch.set_rng_state(before)
            if before_cuda is not None:
                self._cuda_random_state = torch.cuda.get_rng_state(self._device)
                torch.cuda.set_rng_state(before_cuda, self._device)


def _has_numbers(column: Any) -> bool:
    """Whether a column can be a tensor: texts and objects, as ids of episodes, cannot."""
    if column is None:
        return False
    return all(isinstance(leaf, Tensor) or np.asarray(leaf).dtype.kind in "biuf" for leaf in leaves(column))


def _are_tensors(column: Any) -> bool:
    return all(isinstance(leaf, Tensor) for leaf in leaves(column))


def _to_numpy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True).numpy()
    if isinstance(value, dict):
        return {key: _to_numpy(part) for key, part in value.items()}
    return [_to_numpy(part) for part in value] if isinstance(value, list) else value


def _to_tensors(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return torch.from_numpy(np.array(value))
    if isinstance(value, dict):
        return {key: _to_tensors(part) for key, part in value.items()}
    return [_to_tensors(part) for part in value] if isinstance(value, list) else value
