"""The learner that computes gradients with torch."""
