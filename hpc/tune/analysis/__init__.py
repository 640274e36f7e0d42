"""Experiments that have ended, or go on: their trials, results and tables."""

from hpc.tune.analysis.experiment_analysis import ExperimentAnalysis

__all__ = ["ExperimentAnalysis"]
