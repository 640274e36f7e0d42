"""Losses against cases computed by hand, slow loops and finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from hpc.rllib.core.masks import MASKED_LOGIT, mask_logits
from hpc.rllib.math import losses


def check_gradient(loss, *inputs):
    """Compares the gradient with that of finite differences, in double precision."""
    assert torch.autograd.gradcheck(loss, inputs, eps=1e-6, atol=1e-5)


def double(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()


def test_ppo_loss_by_hand():
    got = losses.ppo_loss(
        logp=torch.tensor([math.log(2.0), math.log(0.5)]),
        old_logp=torch.zeros(2),
        advantages=torch.tensor([1.0, -1.0]),
        entropy=torch.tensor([0.2, 0.4]),
        values=torch.tensor([0.0, 5.0]),
        value_targets=torch.tensor([1.0, 0.0]),
        kl=torch.tensor([0.1, 0.3]),
        clip_param=0.3,
        vf_clip_param=10.0,
        vf_loss_coeff=0.5,
        entropy_coeff=0.1,
        kl_coeff=2.0,
    )
    # Ratios 2 and .5 are cut to 1.3 and .7: min(2, 1.3) and min(-.5, -.7).
    assert got.policy.item() == pytest.approx(-(1.3 - 0.7) / 2)
    assert got.vf.item() == pytest.approx((1.0 + 10.0) / 2)
    assert got.vf_unclipped.item() == pytest.approx((1.0 + 25.0) / 2)
    assert got.total.item() == pytest.approx(-0.3 + 0.5 * 5.5 - 0.1 * 0.3 + 2 * 0.2)


def test_ppo_loss_leaves_masked_rows_out():
    full = {
        "logp": torch.tensor([0.1, 0.2, math.inf]),
        "old_logp": torch.zeros(3),
        "advantages": torch.tensor([1.0, -2.0, math.nan]),
        "entropy": torch.tensor([0.1, 0.2, math.nan]),
        "values": torch.tensor([0.0, 1.0, math.nan]),
        "value_targets": torch.tensor([1.0, 0.5, 0.0]),
        "kl": torch.tensor([0.1, 0.2, math.inf]),
    }
    got = losses.ppo_loss(**full, mask=torch.tensor([True, True, False]))
    want = losses.ppo_loss(**{key: value[:2] for key, value in full.items()})
    for a, b in zip(got, want, strict=True):
        assert a.item() == pytest.approx(b.item())


def test_ppo_gradient():
    fixed = {"old_logp": double(6, seed=1).detach(), "advantages": double(6, seed=2).detach()}
    targets = double(6, seed=3).detach()

    def loss(logp, values):
        return losses.ppo_loss(**fixed, logp=logp, entropy=-logp, values=values, value_targets=targets).total

    check_gradient(loss, double(6, seed=4), double(6, seed=5))


def test_dqn_loss_by_hand():
    args = {
        "q": torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        "q_target_next": torch.tensor([[1.0, 5.0], [7.0, 7.0]]),
        "actions": torch.tensor([1, 0]),
        "rewards": torch.tensor([1.0, 2.5]),
        "terminateds": torch.tensor([False, True]),
        "discounts": torch.tensor([0.5, 0.5]),
    }
    single = losses.dqn_loss(**args)
    # Targets 1 + .5 * 5 and 2.5; errors 1.5 (linear part: 1) and .5 (.125).
    assert single.td_error.tolist() == [1.5, 0.5]
    assert single.total.item() == pytest.approx((1.0 + 0.125) / 2)
    double_q = losses.dqn_loss(**args, q_next=torch.tensor([[9.0, 0.0], [0.0, 0.0]]), loss_fn="mse")
    # The learning network takes action 0, of which the target network thinks 1.
    assert double_q.td_error.tolist() == [0.5, 0.5]
    assert double_q.total.item() == pytest.approx(0.25)
    weighted = losses.dqn_loss(**args, weights=torch.tensor([0.0, 2.0]))
    assert weighted.total.item() == pytest.approx(0.125)
    with pytest.raises(ValueError, match="huber"):
        losses.dqn_loss(**args, loss_fn="l1")


def test_where_no_next_action_is_allowed_nothing_follows():
    args = {
        "q": torch.tensor([[1.0, 2.0]]),
        "q_target_next": torch.full((1, 2), MASKED_LOGIT),
        "actions": torch.tensor([1]),
        "rewards": torch.tensor([2.5]),
        "terminateds": torch.tensor([False]),
        "discounts": torch.tensor([0.5]),
    }
    assert losses.dqn_loss(**args).td_error.tolist() == [0.5]
    assert losses.dqn_loss(**args, q_next=torch.full((1, 2), -torch.inf)).td_error.tolist() == [0.5]
    # A value that is no number is no masked one: it must be told.
    assert losses.dqn_loss(**{**args, "q": torch.full((1, 2), torch.nan)}).total.isnan()


def slow_projection(probs, reward, discount, v_min, v_max):
    atoms = len(probs)
    width = (v_max - v_min) / (atoms - 1)
    out = [0.0] * atoms
    for j, p in enumerate(probs):
        moved = min(max(reward + discount * (v_min + j * width), v_min), v_max)
        place = (moved - v_min) / width
        low = min(math.floor(place + 1e-9), atoms - 1)
        part = place - low
        out[low] += p * (1 - part)
        if part > 1e-9:
            out[low + 1] += p * part
    return out


def test_projection_of_distributions():
    generator = torch.Generator().manual_seed(0)
    probs = torch.softmax(torch.randn(40, 11, generator=generator, dtype=torch.float64), -1)
    rewards = torch.randn(40, generator=generator, dtype=torch.float64) * 8
    discounts = torch.tensor([0.9, 0.0], dtype=torch.float64).repeat(20)
    got = losses.categorical_projection(probs, rewards, discounts, -10.0, 10.0)
    for row, p, r, d in zip(got.tolist(), probs.tolist(), rewards.tolist(), discounts.tolist(), strict=True):
        assert row == pytest.approx(slow_projection(p, r, d, -10.0, 10.0))
    assert got.sum(-1).tolist() == pytest.approx([1.0] * 40)


def test_c51_gradient_and_choice_of_actions():
    fixed = {
        "q_next": double(4, 3, seed=1).detach(),
        "target_next_probs": torch.softmax(double(4, 3, 5, seed=2).detach(), -1),
        "actions": torch.tensor([0, 1, 2, 1]),
        "rewards": double(4, seed=3).detach(),
        "terminateds": torch.tensor([False, True, False, False]),
        "discounts": torch.full((4,), 0.9, dtype=torch.float64),
        "v_min": -2.0,
        "v_max": 2.0,
    }
    logits = double(4, 3, 5)
    check_gradient(lambda x: losses.c51_loss(q_logits=x, **fixed).total, logits)
    losses.c51_loss(q_logits=logits, **fixed).total.backward()
    touched = logits.grad.abs().sum(-1) > 0
    assert touched.nonzero()[:, 1].tolist() == [0, 1, 2, 1]
    # Two sequences of two steps are the same four steps.
    folded = {name: x.unflatten(0, (2, 2)) if torch.is_tensor(x) else x for name, x in fixed.items()}
    flat = losses.c51_loss(q_logits=logits, **fixed)
    both = losses.c51_loss(q_logits=logits.unflatten(0, (2, 2)), **folded)
    assert torch.allclose(both.td_error.flatten(), flat.td_error)
    assert both.total.item() == pytest.approx(flat.total.item())


def sac_parts(seed=0):
    names = ("q", "q_twin", "q_target_next", "logp_next", "q_actor", "logp_actor", "rewards")
    return {name: double(5, seed=seed + i) for i, name in enumerate(names)}


def test_sac_continuous_by_hand():
    one = {name: torch.tensor([value]) for name, value in (
        ("q", 1.0), ("q_twin", 3.0), ("q_target_next", 2.0), ("logp_next", -1.0), ("q_actor", 0.5),
        ("logp_actor", -2.0), ("rewards", 0.25))}  # fmt: skip
    got = losses.sac_continuous_loss(
        **one,
        log_alpha=torch.tensor([math.log(0.5)]),
        terminateds=torch.tensor([False]),
        discounts=0.5,
        target_entropy=-1.0,
    )
    target = 0.25 + 0.5 * (2.0 + 0.5)  # 1.5
    assert got.critic.item() == pytest.approx(0.5 * (1 - target) ** 2)
    assert got.critic_twin.item() == pytest.approx(1.5 - 0.5)
    assert got.td_error.item() == pytest.approx((0.5 + 1.5) / 2)
    assert got.actor.item() == pytest.approx(0.5 * -2.0 - 0.5)
    assert got.alpha.item() == pytest.approx(-math.log(0.5) * -3.0)
    assert got.total.item() == pytest.approx(sum(x.item() for x in got[:4]))


def test_sac_gradients_stay_in_their_parts():
    parts = sac_parts()
    log_alpha = double(1, seed=9)
    got = losses.sac_continuous_loss(
        **parts, log_alpha=log_alpha, terminateds=torch.zeros(5, dtype=torch.bool), discounts=0.9, target_entropy=-1.0
    )
    touched = {}
    for name, loss in (("actor", got.actor), ("critic", got.critic), ("twin", got.critic_twin), ("alpha", got.alpha)):
        grads = torch.autograd.grad(loss, [*parts.values(), log_alpha], allow_unused=True, retain_graph=True)
        touched[name] = {key for key, grad in zip([*parts, "alpha"], grads, strict=True) if grad is not None}
    assert touched == {"actor": {"q_actor", "logp_actor"}, "critic": {"q"}, "twin": {"q_twin"}, "alpha": {"alpha"}}


def test_sac_discrete_is_the_expectation_of_the_continuous():
    probs = torch.tensor([[0.25, 0.75]])
    logp = probs.log()
    q, twin = torch.tensor([[1.0, 2.0]]), torch.tensor([[2.0, 1.0]])
    got = losses.sac_discrete_loss(
        q=q, q_twin=twin, q_target_next=torch.tensor([[4.0, 8.0]]), probs_next=probs, logp_next=logp, probs=probs,
        logp=logp, log_alpha=torch.zeros(1), actions=torch.tensor([1]), rewards=torch.tensor([1.0]),
        terminateds=torch.tensor([False]), discounts=torch.tensor([0.5]), target_entropy=-2.0,
    )  # fmt: skip
    negative_entropy = 0.25 * math.log(0.25) + 0.75 * math.log(0.75)
    target = 1.0 + 0.5 * (7.0 - negative_entropy)
    assert got.td_error.item() == pytest.approx(((target - 2) + (target - 1)) / 2)
    assert got.actor.item() == pytest.approx(negative_entropy - 1.0)
    assert got.alpha.item() == 0.0


def test_masked_actions_weigh_nothing_at_any_temperature():
    mask = torch.tensor([[True, True, False]])
    logp = mask_logits(torch.tensor([[0.5, 0.0, 9.0]], requires_grad=True), mask).log_softmax(-1)
    q = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    got = losses.sac_discrete_loss(
        q=q, q_twin=None, q_target_next=q.detach(), probs_next=logp.exp(), logp_next=logp, probs=logp.exp(), logp=logp,
        log_alpha=torch.tensor([math.log(50.0)]), actions=torch.tensor([1]), rewards=torch.tensor([1.0]),
        terminateds=torch.tensor([False]), discounts=torch.tensor([0.5]), target_entropy=-2.0,
    )  # fmt: skip
    two = logp[:, :2].detach()
    expected = (two.exp() * (50.0 * two - q[:, :2].detach())).sum().item()
    assert got.actor.item() == pytest.approx(expected, rel=1e-5)
    got.total.backward()
    assert q.grad.isfinite().all()


def test_marwil_by_hand_and_bc_without_weights():
    logp = torch.tensor([-1.0, -2.0])
    got = losses.marwil_loss(
        logp=logp,
        values=torch.tensor([0.0, 0.0]),
        value_targets=torch.tensor([2.0, 0.0]),
        norm=torch.tensor(4.0),
        beta=1.0,
        norm_rate=0.5,
    )
    assert got.norm.item() == pytest.approx(3.0)
    assert got.vf.item() == pytest.approx(1.0)
    assert got.policy.item() == pytest.approx((math.exp(2 / math.sqrt(3)) + 2) / 2)
    assert losses.bc_loss(logp).item() == 1.5


def test_conservative_penalty_pushes_down_what_the_data_lacks():
    names = ("q_data", "q_random", "q_next", "q_current")
    values = {name: double(*((3,) if name == "q_data" else (3, 4)), seed=i) for i, name in enumerate(names)}
    logp = {"logp_next": double(3, 4, seed=7), "logp_current": double(3, 4, seed=8)}
    got = losses.conservative_penalty(**values, **logp, action_size=2, temperature=0.5, weight=3.0)
    rows = []
    for i in range(3):
        drawn = [q - 2 * math.log(0.5) for q in values["q_random"][i].tolist()]
        for key, other in (("q_next", "logp_next"), ("q_current", "logp_current")):
            drawn += [q - p for q, p in zip(values[key][i].tolist(), logp[other][i].tolist(), strict=True)]
        rows.append(0.5 * math.log(sum(math.exp(x / 0.5) for x in drawn)) - values["q_data"][i].item())
    assert got.item() == pytest.approx(3.0 * sum(rows) / 3)
    got.backward()
    assert (values["q_data"].grad < 0).all()
    assert (values["q_random"].grad > 0).all()
    assert logp["logp_next"].grad is None


def test_cql_clones_before_it_improves():
    parts = {"log_alpha": torch.zeros(1), "logp_actor": torch.tensor([1.0]), "q_actor": torch.tensor([5.0])}
    assert losses.cql_actor_loss(**parts, logp_data=None).item() == -4.0
    assert losses.cql_actor_loss(**parts, logp_data=torch.tensor([-3.0])).item() == 4.0


def test_explained_variance_of_masked_rows():
    targets = torch.tensor([1.0, 2.0, 3.0, 100.0])
    mask = torch.tensor([True, True, True, False])
    assert losses.explained_variance(targets, targets, mask).item() == pytest.approx(1.0)
    assert losses.explained_variance(targets, torch.zeros(4), mask).item() == pytest.approx(0.0)
    assert losses.explained_variance(targets, -2 * targets, mask).item() == -1.0
