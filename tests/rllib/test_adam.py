"""The optimizer of learners beside torch's own."""

from __future__ import annotations

import copy
import importlib.util
import inspect

import torch

from hpc.rllib.core.learner.torch.adam import FastAdam


def test_fast_adam_makes_the_steps_of_adam() -> None:
    torch.manual_seed(0)
    mine = [torch.randn(3, 2, requires_grad=True), torch.randn(4, requires_grad=True)]
    theirs = [p.detach().clone().requires_grad_() for p in mine]
    fast, slow = FastAdam(mine, lr=0.1, eps=1e-6), torch.optim.Adam(theirs, lr=0.1, eps=1e-6)
    for step in range(6):
        for a, b in zip(mine, theirs):
            a.grad = torch.full_like(a, float(step) - 2.0)
            b.grad = a.grad.clone()
        if step == 3:
            mine[0].grad = theirs[0].grad = None
        fast.step()
        slow.step()
        for optimizer in (fast, slow):
            optimizer.param_groups[0]["lr"] *= 0.9
        if step == 4:
            fast.load_state_dict(copy.deepcopy(slow.state_dict()))
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b)


def test_fast_adam_calls_hooks_and_counts_each_parameter_by_itself() -> None:
    params = [torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)]
    optimizer, called = FastAdam(params), []
    for step in range(5):
        for param in params:
            param.grad = torch.ones_like(param)
        if step == 2:
            params[0].grad = None
        if step == 3:
            handle = optimizer.register_step_post_hook(lambda *args: called.append(len(called)))
        optimizer.step()
    handle.remove()
    optimizer.step()
    assert called == [0, 1]
    assert [optimizer.state[param]["step"].item() for param in params] == [5.0, 6.0]


def test_fast_adam_calls_hooks_once_where_the_program_has_made_an_adam_before() -> None:
    param = torch.ones(2, requires_grad=True)
    torch.optim.Adam([param])
    spec = importlib.util.find_spec("hpc.rllib.core.learner.torch.adam")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    optimizer, called = module.FastAdam([param]), []
    optimizer.register_step_pre_hook(lambda *args: called.append("before"))
    optimizer.register_step_post_hook(lambda *args: called.append("behind"))
    param.grad = torch.ones(2)
    optimizer.step()
    assert called == ["before", "behind"]


def test_copies_of_fast_adam_go_on_by_themselves_and_its_decay_is_that_of_its_settings() -> None:
    new = "decoupled_weight_decay" in inspect.signature(torch.optim.Adam).parameters
    for more in ({}, {"decoupled_weight_decay": True} if new else {}):
        how = {"lr": 0.1, "weight_decay": 0.5, **more}
        mine, theirs = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
        fast, slow = FastAdam([mine], **how), torch.optim.Adam([theirs], **how)
        for step in range(4):
            if step == 2:
                (mine, fast), old = copy.deepcopy((mine, fast)), fast
            for param, optimizer in ((mine, fast), (theirs, slow)):
                param.grad = torch.full((3,), float(step) - 2.0)
                optimizer.step()
        torch.testing.assert_close(mine, theirs)
        counts = [next(iter(one.state.values()))["step"].item() for one in (old, fast)]
        assert counts == [2.0, 4.0]
