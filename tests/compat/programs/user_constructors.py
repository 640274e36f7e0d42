"""Errors in the wrong place: values that do not dump, load or compare, constructors that raise."""

import hpc as ray

ray.init(num_cpus=2)


def attempt(what, make):
    try:
        print(what, make())
    except Exception as error:
        known = [
            c.__name__
            for c in type(error).__mro__
            if c.__name__
            in (
                "RayActorError",
                "RayTaskError",
                "TaskError",
                "ActorError",
                "ValueError",
                "TypeError",
                "RuntimeError",
                "ZeroDivisionError",
                "KeyError",
            )
        ]
        print(what, [name.replace("Ray", "") for name in known])


@ray.remote
def echo(x):
    return x


@ray.remote
def length(x):
    return len(x)


class BadLoad:
    def __reduce__(self):
        return int, ("no number",)


class BadDump:
    def __reduce__(self):
        raise RuntimeError("no dumping")


class BadState:
    def __init__(self):
        self.x = 1

    def __setstate__(self, state):
        raise KeyError("no state")


class BadRepr:
    def __repr__(self):
        raise RuntimeError("no repr")


class BadEq:
    def __eq__(self, other):
        raise RuntimeError("no comparing")

    __hash__ = None


class BadBool:
    def __bool__(self):
        raise RuntimeError("no truth")

    def __len__(self):
        raise RuntimeError("no length")


class BadAttribute:
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        raise RuntimeError(f"no {name}")


attempt("argument does not load:", lambda: ray.get(echo.remote(BadLoad())))
attempt("argument does not dump:", lambda: echo.remote(BadDump()))
attempt("put does not dump:", lambda: ray.put(BadDump()))
attempt("state:", lambda: ray.get(echo.remote(BadState())))
attempt("got does not load:", lambda: ray.get(ray.put(BadLoad())))
attempt("repr:", lambda: type(ray.get(echo.remote(BadRepr()))).__name__)
attempt("eq:", lambda: type(ray.get(echo.remote([BadEq()]))[0]).__name__)
attempt("bool:", lambda: type(ray.get(echo.remote(BadBool()))).__name__)
attempt("len:", lambda: ray.get(length.remote(BadBool())))
attempt("attribute:", lambda: type(ray.get(echo.remote(BadAttribute()))).__name__)


@ray.remote
def gives(name):
    return {"load": BadLoad, "dump": BadDump, "state": BadState, "repr": BadRepr, "bool": BadBool}[name]()


for name in ("load", "dump", "state"):
    attempt(f"result {name}:", lambda: ray.get(gives.remote(name)))
attempt("result repr:", lambda: type(ray.get(gives.remote("repr"))).__name__)
attempt("result bool:", lambda: type(ray.get(gives.remote("bool"))).__name__)
attempt("after all that:", lambda: ray.get(echo.remote("works")))


@ray.remote(num_cpus=0)
class Actor:
    def __init__(self, how="well"):
        if how == "raises":
            raise ValueError("in the constructor")
        if how == "divides":
            1 / 0
        self.how = how

    def get(self):
        return self.how

    def give(self, name):
        return {"load": BadLoad, "dump": BadDump}[name]()

    def take(self, x):
        return "taken"


for how in ("raises", "divides", "well", BadLoad(), BadRepr()):
    attempt(
        f"actor {how if isinstance(how, str) else type(how).__name__}:",
        lambda: str(type(ray.get(Actor.remote(how).get.remote())).__name__),
    )
attempt("actor does not dump:", lambda: Actor.remote(BadDump()))
actor = Actor.remote()
attempt("method result load:", lambda: ray.get(actor.give.remote("load")))
attempt("method result dump:", lambda: ray.get(actor.give.remote("dump")))
attempt("method argument load:", lambda: ray.get(actor.take.remote(BadLoad())))
attempt("method argument dump:", lambda: actor.take.remote(BadDump()))
attempt("actor lives:", lambda: ray.get(actor.get.remote()))
attempt("constructor with too many:", lambda: Actor.remote(1, 2, 3))
attempt("constructor with failed argument:", lambda: ray.get(Actor.remote(echo.remote(BadLoad())).get.remote()))
attempt("method with failed argument:", lambda: ray.get(actor.take.remote(echo.remote(BadLoad()))))
attempt("actor still lives:", lambda: ray.get(actor.get.remote()))
