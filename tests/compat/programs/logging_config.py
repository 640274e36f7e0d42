"""LoggingConfig: what it takes, and what records look like in the driver, in tasks and in actors."""

import io
import json
import logging
import sys

import hpc as ray

for bad in (
    {"encoding": "XML"}, {"additional_log_standard_attrs": ["colour"]}, {"encoding": None},
):  # fmt: skip
    try:
        print(ray.LoggingConfig(**bad))
    except Exception as error:
        print(bad, type(error).__name__)
print(ray.LoggingConfig())
print(ray.LoggingConfig("JSON", "DEBUG", ["name"]).to_dict())
print(ray.LoggingConfig.from_dict({"encoding": "JSON", "unknown": 1}))
print(ray.LoggingConfig() == ray.LoggingConfig("TEXT"))

config = ray.LoggingConfig(encoding="JSON", log_level="WARNING", additional_log_standard_attrs=["name", "funcName"])
ray.init(num_cpus=2, logging_config=config)


def fields(number, error=None, **extra):
    """What the root logger's handler makes of a record."""
    [handler] = logging.getLogger().handlers
    made = logging.getLogger("mine").makeRecord
    record = made("mine", logging.WARNING, "/a/b.py", 7, "text %s", (number,), error, "func", extra)
    handler.filter(record)
    return json.loads(handler.format(record))


def told(found):
    known = ("levelname", "message", "filename", "lineno", "name", "funcName", "mine", "task_name", "actor_name")
    return sorted(set(found) - {"taskName"}), {name: found[name] for name in known if name in found}


@ray.remote
def task():
    return told(fields(2, mine=[1, 2])), logging.getLogger().level, logging.getLogger("any").isEnabledFor(logging.INFO)


@ray.remote
class Actor:
    def method(self):
        return told(fields(3))


print(told(fields(1)), logging.getLogger().level)
print(ray.get(task.options(name="given").remote()))
named, other = Actor.options(name="called").remote(), Actor.remote()
print(ray.get(named.method.remote()))
print(ray.get(other.method.remote()))
try:
    1 / 0
except ZeroDivisionError:
    found = fields(4, sys.exc_info())
    print("exc_text" in found, found["exc_text"].splitlines()[0], found["exc_text"].splitlines()[-1])
stream, logging.getLogger().handlers[0].stream = logging.getLogger().handlers[0].stream, io.StringIO()
logging.getLogger("below").info("not written")
logging.getLogger("at").warning("written")
print(len(logging.getLogger().handlers[0].stream.getvalue().splitlines()))
