"""Values that change with the number of steps."""

from hpc.rllib.utils.schedules.scheduler import PiecewiseSchedule as PiecewiseSchedule
from hpc.rllib.utils.schedules.scheduler import Scheduler as Scheduler
