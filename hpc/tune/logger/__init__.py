"""Loggers: callbacks that record what trials report. Those for files are there by default, others for the asking."""

from hpc.tune.logger.csv import CSVLoggerCallback
from hpc.tune.logger.json import JsonLoggerCallback
from hpc.tune.logger.logger import LoggerCallback, pretty_print
from hpc.tune.logger.tensorboardx import TBXLoggerCallback

__all__ = ["CSVLoggerCallback", "JsonLoggerCallback", "LoggerCallback", "TBXLoggerCallback", "pretty_print"]
