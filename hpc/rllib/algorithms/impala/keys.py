"""Names of what IMPALA's learner reports."""

from __future__ import annotations

LEARNER_RESULTS_CURR_ENTROPY_COEFF_KEY = "curr_entropy_coeff"
