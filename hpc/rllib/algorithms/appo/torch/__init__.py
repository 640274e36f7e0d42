"""APPO's learner and module with torch."""
