"""IMPALA's learner with torch."""
