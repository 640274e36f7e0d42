"""Values that change with the number of steps, and distributions of actions."""
# needs: torch, gymnasium

import gymnasium as gym
import numpy as np
import torch

from hpc.rllib.core.distribution.torch.torch_distribution import (
    TorchCategorical,
    TorchDeterministic,
    TorchDiagGaussian,
    TorchMultiCategorical,
    TorchMultiDistribution,
    TorchSquashedGaussian,
)
from hpc.rllib.utils.schedules.scheduler import Scheduler


def tried(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [round(float(x), 4) + 0.0 for x in np.asarray(torch.as_tensor(value).detach()).reshape(-1)]


for given in (0.5, 3, [[0, 1.0], [100, 0.0]], [[0, 0.1], [10, 0.5], [20, 0.2]], [(0, 1.0), (4, 2.0)]):
    schedule = Scheduler(fixed_value_or_schedule=given, framework="torch")
    seen = []
    for step in (0, 1, 5, 10, 15, 50, 100, 1000):
        value = schedule.update(timestep=step)
        seen.append((round(float(value), 5), round(float(schedule.get_current_value()), 5)))
    print(given, seen)
for bad in (
    [[0, 1.0]],
    [[5, 1.0], [10, 0.0]],
    [],
    "fast",
    [[0, 1.0], [10]],
    [[0, 1.0], [10, "a"]],
    {"a": 1},
    [[0, 1.0], [10, 0.5], [5, 0.1]],
):
    tried(
        f"validate {bad}",
        lambda: Scheduler.validate(fixed_value_or_schedule=bad, setting_name="lr", description="rate"),
    )

print("== distributions")
logits = torch.tensor([[0.1, 2.0, -1.0], [0.0, 0.0, 0.0], [5.0, -5.0, 1.0]])
one = TorchCategorical.from_logits(logits)
other = TorchCategorical.from_logits(torch.flip(logits, [1]))
print("categorical", rounded(one.logp(torch.tensor([0, 1, 2]))), rounded(one.entropy()), rounded(one.kl(other)))
print(one.to_deterministic().sample().tolist(), tuple(one.sample().shape), one.sample().dtype)
print(TorchCategorical.required_input_dim(space=gym.spaces.Discrete(7)))
masked = TorchCategorical.from_logits(torch.tensor([[0.0, torch.finfo(torch.float32).min, 1.0]]))
print(
    "masked",
    rounded(masked.logp(torch.tensor([2]))),
    rounded(masked.entropy()),
    sorted(set(masked.sample(sample_shape=(50,)).reshape(-1).tolist())) in ([0, 2], [2], [0]),
)

inputs = torch.tensor([[0.0, 1.0, 0.0, -1.0], [0.5, -0.5, 0.3, 0.2]])
one = TorchDiagGaussian.from_logits(inputs)
other = TorchDiagGaussian.from_logits(inputs * 0.5)
acts = torch.tensor([[0.1, 0.9], [1.0, -1.0]])
print(
    "gaussian",
    rounded(one.logp(acts)),
    rounded(one.entropy()),
    rounded(one.kl(other)),
    rounded(one.to_deterministic().sample()),
)
print(TorchDiagGaussian.required_input_dim(space=gym.spaces.Box(-1, 1, (3,))))
one = TorchSquashedGaussian.from_logits(inputs)
print("squashed", rounded(one.logp(acts * 0.5)))
tried("squashed entropy", lambda: rounded(one.entropy()))
tried("squashed kl", lambda: rounded(one.kl(one)))
sample = one.rsample()
print(tuple(sample.shape), bool((sample.abs() <= 1).all()))
one = TorchDeterministic(loc=torch.tensor([[1.0, 2.0]]))
print("deterministic", rounded(one.sample()))
tried("deterministic logp", lambda: one.logp(torch.tensor([[1.0, 2.0]])))

multi = TorchMultiCategorical.from_logits(torch.tensor([[0.1, 0.9, 1.0, 2.0, 3.0]]), input_lens=[2, 3])
print(
    "multi categorical",
    rounded(multi.logp(torch.tensor([[1, 2]]))),
    rounded(multi.entropy()),
    multi.to_deterministic().sample().tolist(),
)
space = gym.spaces.Dict({"a": gym.spaces.Discrete(2), "b": gym.spaces.Box(-1, 1, (1,))})
both = TorchMultiDistribution.from_logits(
    torch.tensor([[0.1, 0.9, 0.5, 0.0]]),
    child_distribution_cls_struct={"a": TorchCategorical, "b": TorchDiagGaussian},
    input_lens=[2, 2],
    space=space,
)
picked = {"a": torch.tensor([1]), "b": torch.tensor([[0.5]])}
print("of a dict", rounded(both.logp(picked)), rounded(both.entropy()), {k: v.shape for k, v in both.sample().items()})
