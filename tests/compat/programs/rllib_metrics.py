"""The logger of metrics: means, windows, sums, lifetimes, nested names, what is reduced and what is peeked."""
# needs: torch, gymnasium

from hpc.rllib.utils.metrics.metrics_logger import MetricsLogger


def tried(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


def rounded(value):
    if isinstance(value, dict):
        return {key: rounded(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    try:
        return round(float(value), 4)
    except (TypeError, ValueError):
        return value


logger = MetricsLogger(root=True)
for value in (1.0, 2.0, 6.0):
    logger.log_value("mean", value, reduce="mean", window=2)
    logger.log_value("ema", value, reduce="ema", ema_coeff=0.5)
    logger.log_value("low", value, reduce="min", window=10)
    logger.log_value("high", value, reduce="max", window=10)
    logger.log_value("sum", value, reduce="sum")
    logger.log_value("lifetime", value, reduce="lifetime_sum")
    logger.log_value("last", value, reduce="item")
    logger.log_value("series", value, reduce="item_series")
    logger.log_value(("deep", "er", "value"), value, window=3)
    logger.log_dict({"a": value, "b": {"c": value * 2}}, key="group", reduce="mean", window=1)
for name in ("mean", "ema", "low", "high", "sum", "lifetime", "last", "series"):
    tried(name, lambda: rounded(logger.peek(name)))
print(
    rounded(logger.peek(("deep", "er", "value"))), rounded(logger.peek(("deep", "er"))), rounded(logger.peek("group"))
)
tried("missing", lambda: logger.peek("missing"))
tried("missing with a default", lambda: logger.peek("missing", default=7))
print("mean" in logger, "missing" in logger)
out = logger.reduce(compile=True)
print(rounded(out))
for value in (10.0, 20.0):
    logger.log_value("mean", value, window=2)
    logger.log_value("sum", value, reduce="sum")
    logger.log_value("lifetime", value, reduce="lifetime_sum")
    logger.log_value("low", value, reduce="min", window=10)
second = logger.reduce(compile=True)
print(rounded(second["mean"]), rounded(second["sum"]), rounded(second["lifetime"]), rounded(second["low"]))
with logger.log_time("duration"):
    sum(range(1000))
print(0 < logger.peek("duration") < 60)
logger.delete("mean")
print("mean" in logger)
tried("a bad reduction", lambda: logger.log_value("x", 1.0, reduce="median of all"))
tried("a window of 0", lambda: logger.log_value("y", 1.0, reduce="sum", window=0))

print("== merged")
main = MetricsLogger(root=True)
for _ in range(2):
    parts = []
    for number in range(3):
        leaf = MetricsLogger(root=False)
        leaf.log_value("return", float(number), reduce="mean", window=100)
        leaf.log_value("steps", 10 * (number + 1), reduce="sum")
        leaf.log_value("steps_lifetime", 10 * (number + 1), reduce="lifetime_sum")
        leaf.log_value("best", float(number), reduce="max")
        parts.append(leaf.reduce())
    main.aggregate(parts, key="env_runners")
print(rounded(main.peek("env_runners")))
state = main.get_state()
back = MetricsLogger(root=True)
back.set_state(state)
print(rounded(back.peek(("env_runners", "steps_lifetime"))))
