"""Acting: actions for a batch of observations, by numpy for small dense networks, else by torch.

A 2x256 network at 64 rows costs 147 us in numpy and 604 us by torch's modules: most of that is spent between
operators. Draws come of the generator that is given: the same generator and weights give the same actions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from hpc.rllib.core.columns import Columns
from hpc.rllib.core.dense import Dense, dense_of
from hpc.rllib.core.distribution.numpy_distribution import is_deterministic, numpy_twin
from hpc.rllib.core.masks import ACTION_MASK, flat_mask, mask_array
from hpc.rllib.core.rl_module.apis.value_function_api import ValueFunctionAPI
from hpc.rllib.core.rl_module.multi_rl_module import MultiRLModule
from hpc.rllib.utils.trees import map_tree

#: The most multiplications per row for which numpy is used; larger networks gain nothing by it.
NUMPY_MAX_MULTIPLICATIONS = 4_000_000
_FORWARDS = ("_forward", "_forward_inference", "_forward_exploration", "forward_inference", "forward_exploration")
#: Packages of modules whose forward passes are what their acting_networks() say.
_DEFAULT_MODULES = "hpc.rllib.core."

Output = dict[str, Any]


class BatchActor:
    """Acts for a batch of observations by one module.

    ``act`` returns the columns actions, action_logp, action_dist_inputs, vf_preds and state_out, as far as the
    module has them. Actions are the module's: nothing is unsquashed or clipped.
    """

    #: Whether ``act`` returns vf_preds, and ``values`` can be called.
    has_values: bool = False

    def act(
        self,
        obs: Any,
        *,
        rng: np.random.Generator,
        state: Any = None,
        mask: Any = None,
        explore: bool = True,
        t: int = 0,
        values: bool = True,
    ) -> Output:
        """Act. obs: arrays [N, ...]; state: as `initial_state` nests it; mask: allowed actions [N, k].

        t: steps of the environment in all, for exploration that falls over time. values=False: no vf_preds.
        """
        raise NotImplementedError

    def values(self, obs: Any, *, state: Any = None) -> np.ndarray:
        """Values [N] of observations."""
        raise NotImplementedError

    def initial_state(self, n: int) -> dict[str, Any]:
        """States before the first step of n episodes; {} for a stateless module."""
        return {}

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        """Take weights by name."""
        raise NotImplementedError


def make_actor(module: Any, *, within: tuple[Any, str] | None = None) -> BatchActor:
    """The fastest actor for a module: numpy for default modules of dense layers, else torch.

    within: the MultiRLModule that has it, and its id there. Where a class of the user says how modules act together,
    as with an encoder that they share, the module acts through that.
    """
    module = module.unwrapped()
    if within is not None and any(getattr(type(within[0]), name) is not how for name, how in _TOGETHER.items()):
        return TorchActor(module, within=within)
    networks = _numpy_networks(module)
    if networks is not None:
        return NumpyActor(module, networks)
    return TorchActor(module)


#: How a MultiRLModule lets its modules act, if no class of the user changes it.
_TOGETHER = {name: getattr(MultiRLModule, name) for name in _FORWARDS}


def _numpy_networks(module: Any) -> dict[str, Any] | None:
    """The module's networks as numpy ones, if they are dense, small and computed by default forward passes."""
    if not _is_torch(module) or not hasattr(module, "acting_networks") or module.is_stateful():
        return None
    if next(module.parameters()).device.type != "cpu" or not _has_default_forwards(module):
        return None
    given = module.acting_networks()
    built: dict[str, Any] = {}
    for name, parts in given.items():
        if not isinstance(parts, list):
            built[name] = parts
            continue
        dense = dense_of(module, parts)
        if dense is None or dense.multiplications > NUMPY_MAX_MULTIPLICATIONS:
            return None
        built[name] = dense
    greedy = built.get("greedy", False)
    if greedy and getattr(module, "uses_noisy", False):
        return None
    twin = None if greedy else numpy_twin(module.get_exploration_action_dist_cls())
    if twin is None and not greedy:
        return None
    same = module.get_inference_action_dist_cls() is module.get_exploration_action_dist_cls()
    return {**built, "twin": twin} if same else None


def _has_default_forwards(module: Any) -> bool:
    """Whether no class of the user changed how the module acts."""
    for name in (*_FORWARDS, "compute_values", "_qf_forward_helper", "compute_q_values"):
        if name in vars(module):
            return False
        function = getattr(type(module), name, None)
        if function is not None and not function.__module__.startswith(_DEFAULT_MODULES):
            return False
    return True


class NumpyActor(BatchActor):
    """Acts by dense networks in numpy; deterministic by the generator."""

    #: Whether what Q-learning thinks of each action comes as ACTION_DIST_INPUTS, for priorities.
    keeps_scores = False

    def __init__(self, module: Any, networks: dict[str, Any]) -> None:
        self._policy: Dense = networks["policy"]
        self._value: Dense | None = networks.get("value")
        self._duel: Dense | None = networks.get("duel")
        self._atoms: np.ndarray | None = networks.get("atoms")
        self._epsilon = networks.get("epsilon")
        self._twin = networks["twin"]
        self._dense = [net for net in (self._policy, self._value, self._duel) if net is not None]
        self._shared = self._value is not None and self._value.encoder_names == self._policy.encoder_names
        self.has_values = self._value is not None
        self.set_weights({name: tensor.detach().numpy() for name, tensor in module.state_dict().items()})

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        for net in self._dense:
            net.load(weights)

    def act(
        self,
        obs: Any,
        *,
        rng: np.random.Generator,
        state: Any = None,
        mask: Any = None,
        explore: bool = True,
        t: int = 0,
        values: bool = True,
    ) -> Output:
        features = self._policy.encode(obs)
        logits = self._policy.head(features)
        if self._twin is None:
            return self._greedy(features, logits, rng, mask, explore, t)
        logits = mask_array(logits, mask)
        out: Output = {Columns.ACTION_DIST_INPUTS: logits}
        if explore:
            out[Columns.ACTIONS], out[Columns.ACTION_LOGP] = self._twin.draw(logits, rng)
        else:
            out[Columns.ACTIONS] = self._twin.best(logits)
            out[Columns.ACTION_LOGP] = np.zeros(len(logits), np.float32)
        if values and self._value is not None:
            critic = features if self._shared else self._value.encode(obs)
            out[Columns.VF_PREDS] = self._value.head(critic)[:, 0]
        return out

    def values(self, obs: Any, *, state: Any = None) -> np.ndarray:
        if self._value is None:
            raise ValueError("this module has no value function that acts")
        return self._value.head(self._value.encode(obs))[:, 0]

    def _greedy(
        self, features: np.ndarray, out: np.ndarray, rng: np.random.Generator, mask: Any, explore: bool, t: int
    ) -> Output:
        scores = mask_array(self._q_values(features, out), mask)
        actions = scores.argmax(axis=-1)
        if explore:
            assert self._epsilon is not None
            actions = epsilon_greedy(actions, scores.shape[-1], mask, self._epsilon(t), rng)
        if self.keeps_scores:
            return {Columns.ACTIONS: actions, Columns.ACTION_DIST_INPUTS: scores.astype(np.float32, copy=False)}
        return {Columns.ACTIONS: actions}

    def _q_values(self, features: np.ndarray, out: np.ndarray) -> np.ndarray:
        atoms = 1 if self._atoms is None else len(self._atoms)
        advantages = out.reshape(len(out), -1, atoms)
        if self._duel is not None:
            value = self._duel.head(features)[:, None, :]
            advantages = value + advantages - advantages.mean(axis=1, keepdims=True)
        if self._atoms is None:
            return advantages[:, :, 0]
        weights = np.exp(advantages - advantages.max(axis=-1, keepdims=True))
        return (weights * self._atoms).sum(axis=-1) / weights.sum(axis=-1)


def epsilon_greedy(best: np.ndarray, n: int, mask: Any, epsilon: float, rng: np.random.Generator) -> np.ndarray:
    """The best actions, each replaced with probability ``epsilon`` by a random allowed one."""
    explores = rng.random(best.shape) < epsilon
    if mask is None:
        drawn = rng.integers(n, size=best.shape)
    else:
        # The largest of random numbers over the allowed actions is uniform over them.
        drawn = np.where(flat_mask(mask), rng.random((*best.shape, n)), -1.0).argmax(axis=-1)
    return np.where(explores, drawn, best)


class TorchActor(BatchActor):
    """Acts by the module's own forward passes, with torch's inference mode.

    Draws from distributions of this package come of the generator in numpy. A module or distribution of the user draws
    by torch, seeded from the generator.
    """

    def __init__(self, module: Any, *, within: tuple[Any, str] | None = None) -> None:
        self._module = module
        self._within = within
        self._device = next((p.device for p in module.parameters()), torch.device("cpu")) if _is_torch(module) else None
        self._stateful = module.is_stateful()
        self._takes_time = hasattr(module, "epsilon_schedule")
        # A default module that returns inputs of a distribution of this package draws nothing itself.
        own = not _has_default_forwards(module) or self._takes_time or within is not None
        self._draws_by_torch = own or numpy_twin(module.get_exploration_action_dist_cls()) is None
        self.has_values = isinstance(module, ValueFunctionAPI) and not getattr(module, "inference_only", False)

    def set_weights(self, weights: dict[str, np.ndarray]) -> None:
        self._module.set_state(weights)

    def initial_state(self, n: int) -> dict[str, Any]:
        if not self._stateful:
            return {}
        one = map_tree(_array, self._module.get_initial_state())
        return map_tree(lambda leaf: np.repeat(leaf[None], n, axis=0), one)

    def act(
        self,
        obs: Any,
        *,
        rng: np.random.Generator,
        state: Any = None,
        mask: Any = None,
        explore: bool = True,
        t: int = 0,
        values: bool = True,
    ) -> Output:
        batch = self._batch(obs, state, mask)
        module = self._module
        # A module of the user may take its batch apart, as one that splits masks off does.
        again = map_tree(lambda leaf: leaf, batch) if values and self.has_values else None
        dist_cls = None
        with torch.inference_mode(), self._seeded(rng):
            if explore:
                # Modules of users need not take t, so only those with an epsilon of their own get it.
                kwargs = {"t": t} if self._takes_time else {}
                out = self._forward("forward_exploration", batch, **kwargs)
            else:
                out = self._forward("forward_inference", batch)
            if Columns.ACTIONS not in out:
                dist_cls = (
                    module.get_exploration_action_dist_cls() if explore else module.get_inference_action_dist_cls()
                )
            result = self._result(out)
            if dist_cls is not None:
                self._draw(result, out[Columns.ACTION_DIST_INPUTS], dist_cls, explore, rng)
            if again is not None:
                result[Columns.VF_PREDS] = self._no_time(_array(module.compute_values(again)))
        return result

    def _forward(self, name: str, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        if self._within is None:
            found: dict[str, Any] = getattr(self._module, name)(batch, **kwargs)
            return found
        modules, module_id = self._within
        found = getattr(modules, name)({module_id: batch}, **kwargs)[module_id]
        return found

    @contextmanager
    def _seeded(self, rng: np.random.Generator) -> Iterator[None]:
        """torch's generator is seeded within, where the module may draw by it, and is afterwards what it was."""
        if not self._draws_by_torch:
            yield
            return
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(int(rng.integers(2**63)))
        try:
            yield
        finally:
            torch.set_rng_state(before)

    def values(self, obs: Any, *, state: Any = None) -> np.ndarray:
        if not self.has_values:
            raise ValueError(f"{type(self._module).__name__} has no value function that acts")
        with torch.inference_mode():
            return self._no_time(_array(self._module.compute_values(self._batch(obs, state, None))))

    def _batch(self, obs: Any, state: Any, mask: Any) -> dict[str, Any]:
        batch = {Columns.OBS: map_tree(self._tensor, obs)}
        if mask is not None:
            batch[ACTION_MASK] = self._tensor(flat_mask(mask))
        if self._stateful:
            # One step in time: [N, 1, ...].
            batch = map_tree(lambda leaf: leaf.unsqueeze(1), batch)
            batch[Columns.STATE_IN] = map_tree(self._tensor, state)
        return batch

    def _tensor(self, leaf: Any) -> torch.Tensor:
        array = np.asarray(leaf)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        return torch.as_tensor(np.require(array, requirements="W"), device=self._device)

    def _result(self, out: dict[str, Any]) -> Output:
        """Outputs as arrays without the axis of time. Those with that axis are actions and what is computed beside."""
        result: Output = {}
        for name, value in out.items():
            if name == Columns.EMBEDDINGS:
                continue
            arrays = map_tree(_array, value)
            result[name] = arrays if name == Columns.STATE_OUT else map_tree(self._no_time, arrays)
        return result

    def _no_time(self, leaf: np.ndarray) -> np.ndarray:
        return leaf[:, 0] if self._stateful and leaf.ndim > 1 else leaf

    def _draw(self, result: Output, inputs: Any, dist_cls: Any, explore: bool, rng: np.random.Generator) -> None:
        twin = numpy_twin(dist_cls)
        if twin is not None:
            logits = result[Columns.ACTION_DIST_INPUTS]
            if explore:
                result[Columns.ACTIONS], result[Columns.ACTION_LOGP] = twin.draw(logits, rng)
            else:
                result[Columns.ACTIONS] = twin.best(logits)
                result[Columns.ACTION_LOGP] = np.zeros(len(logits), np.float32)
            return
        dist = dist_cls.from_logits(inputs)
        if not explore or is_deterministic(dist_cls):
            dist = dist.to_deterministic()
        actions = dist.sample()
        result[Columns.ACTIONS] = map_tree(lambda leaf: self._no_time(_array(leaf)), actions)
        if explore and not is_deterministic(dist_cls):
            result[Columns.ACTION_LOGP] = self._no_time(_array(dist.logp(actions)))


def _is_torch(module: Any) -> bool:
    return isinstance(module, torch.nn.Module)


def _array(leaf: Any) -> np.ndarray:
    return leaf.detach().cpu().numpy() if isinstance(leaf, torch.Tensor) else np.asarray(leaf)
