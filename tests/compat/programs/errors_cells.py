"""Functions of a notebook's cells."""

import hpc as ray

ray.init(num_cpus=2)
E = ray.exceptions
import linecache  # noqa: E402

CELL = "@ray.remote\ndef cell():\n    raise ValueError('in a cell')\n"
name = "<ipython-input-3-0c>"
linecache.cache[name] = (len(CELL), None, CELL.splitlines(True), name)
exec(compile(CELL, name, "exec"))
try:
    ray.get(cell.remote())  # noqa: F821
except ValueError as error:
    print("in cell" in str(error), "ValueError: in a cell" in str(error))
