"""The trainer of rank functions under Ray's path."""

from hpc.train.trainer import DataParallelTrainer

__all__ = ["DataParallelTrainer"]
