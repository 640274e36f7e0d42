"""Names of the columns of batches, fragments and outputs of modules."""

from __future__ import annotations


class Columns:
    """RLlib's names of columns; a module, a connector and a learner mean the same by each."""

    # Observations after ``reset`` or ``step``, and what came with them.
    OBS = "obs"
    INFOS = "infos"
    # ACTIONS are the module's; ACTIONS_FOR_ENV are unsquashed or clipped.
    ACTIONS = "actions"
    ACTIONS_FOR_ENV = "actions_for_env"
    REWARDS = "rewards"
    TERMINATEDS = "terminateds"
    TRUNCATEDS = "truncateds"
    NEXT_OBS = "new_obs"
    # Identities of a row.
    EPS_ID = "eps_id"
    AGENT_ID = "agent_id"
    MODULE_ID = "module_id"
    SEQ_LENS = "seq_lens"
    T = "t"
    # Outputs of modules.
    STATE_IN = "state_in"
    NEXT_STATE_IN = "next_state_in"
    STATE_OUT = "state_out"
    NEXT_STATE_OUT = "next_state_out"
    EMBEDDINGS = "embeddings"
    ACTION_DIST_INPUTS = "action_dist_inputs"
    ACTION_PROB = "action_prob"
    ACTION_LOGP = "action_logp"
    VF_PREDS = "vf_preds"
    VALUES_BOOTSTRAPPED = "values_bootstrapped"
    # Columns that learners add.
    ADVANTAGES = "advantages"
    VALUE_TARGETS = "value_targets"
    INTRINSIC_REWARDS = "intrinsic_rewards"
    RETURNS_TO_GO = "returns_to_go"
    # False: a loss leaves the row out.
    LOSS_MASK = "loss_mask"
