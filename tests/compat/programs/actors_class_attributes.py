"""What an actor class still is of its class."""

import hpc as ray

ray.init(num_cpus=2)


class Base:
    LIMIT = 10

    @staticmethod
    def double(x):
        return 2 * x


@ray.remote
class Counter(Base):
    """Counts."""

    START = 5
    table = {"a": 1}

    def __init__(self, n=0):
        self.n = n

    @classmethod
    def from_text(cls, text):
        return cls(int(text))

    def next(self):
        self.n += Counter.START
        return self.n

    def n(self):
        return self.n

    def inside(self):
        return Counter.LIMIT, Counter.double(4), Counter.from_text("7").n, Counter.table["a"]


def show(what, call):
    try:
        print(what, call())
    except Exception as error:
        print(what, type(error).__name__)


counter = Counter.remote()
show("constant", lambda: (Counter.START, Counter.LIMIT, Counter.table))
show("static", lambda: Counter.double(4))
show("class method", lambda: Counter.from_text("7").n)
show("doc", lambda: Counter.__doc__)
show("module", lambda: Counter.__module__)
show("method", lambda: ray.get(counter.next.remote()))
show("method of the name of an attribute", lambda: ray.get(counter.n.remote()))
show("inside", lambda: ray.get(counter.inside.remote()))
show("dir of the class", lambda: [n for n in dir(Counter) if not n.startswith("_")])
show("dir of a handle", lambda: [n for n in dir(counter) if not n.startswith("_")])
show("dir of a method", lambda: [n for n in dir(counter.next) if not n.startswith("_")])
show("constant by a handle", lambda: counter.LIMIT)
show("no such attribute", lambda: Counter.nothing)
show("actor class again", lambda: ray.remote(Counter))
show("isinstance", lambda: isinstance(Counter, ray.actor.ActorClass))
try:

    class Sub(Counter):
        pass
except TypeError as error:
    print("inherit", type(error).__name__, isinstance(error, ray.actor.ActorClassInheritanceException))


class Derived(Counter.__ray_actor_class__):
    def more(self):
        return "more", self.START


show("derived from the class", lambda: ray.get(ray.remote(Derived).remote().more.remote()))
