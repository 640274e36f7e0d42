"""Actors: what ``@hpc.remote`` makes of a class, handles, and their methods."""

from __future__ import annotations

import functools
import inspect
import pickle
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hpc.api import options as opts
from hpc.api.connection import ensure_client, namespace_of
from hpc.api.functions import is_generator
from hpc.api.packing import export, pack_arguments, references_to, shape_of
from hpc.api.scheduling import is_pinned
from hpc.api.signatures import ANY, Signature, constructor_of, method_of
from hpc.api.signatures import NO_ARGUMENTS as TAKES_NOTHING
from hpc.api.worker_env import portable, worker_env
from hpc.core.classes import has_coroutines
from hpc.core.exceptions import ActorAlreadyExistsError, ActorExit
from hpc.core.idtypes import ActorID
from hpc.core.owner.ports import Holder
from hpc.core.owner.ref import ObjectRef
from hpc.core.owner.shell.client import Client
from hpc.core.owner.shell.collecting import Collecting
from hpc.core.owner.strangers import check_handle
from hpc.core.owner.tables import CallKind
from hpc.core.process.context import current_task, process
from hpc.core.process.current import current
from hpc.core.wire import NO_ARGUMENTS, STREAMING, CreateActor, NameLookup, NameRegister, NewActor

#: Methods that every actor has.
BUILT_IN = ("__ray_ready__", "__ray_call__", "__ray_terminate__", "__hpc_save__")
METHOD_OPTIONS = (
    "num_returns", "name", "max_task_retries", "retry_exceptions", "concurrency_group", "enable_task_events",
    "_metadata", "_generator_backpressure_num_objects",
)  # fmt: skip


#: How long the head may take to answer about detached actors.
ASK_S = 60.0


class MethodOptions(NamedTuple):
    """What is known of one method: it travels with every handle. ``retries`` None: what the actor's option says."""

    num_returns: int = 1
    retries: int | None = None
    group: str = ""
    window: int = 0
    retry_exceptions: bool = False
    signature: Signature = ANY
    is_generator: bool = False
    #: Of calls that ``options`` gave one.
    name: str = ""


class HandleOptions(NamedTuple):
    """What is known of an actor by all its handles."""

    retries: int = 0
    max_pending: int = -1
    out_of_order: bool = False
    groups: tuple[str, ...] = ()
    #: It runs its calls in order, one at a time: many may travel as one.
    in_turn: bool = False


def method(*args: Any, **options: Any) -> Any:
    """Options of one method of an actor class: ``@hpc.method(num_returns=2, concurrency_group="io")``. Without any,
    ``@hpc.method`` changes nothing.

    Raises ValueError for options that methods do not have.
    """
    if len(args) == 1 and callable(args[0]) and not options:
        return args[0]
    if args:
        raise ValueError("@hpc.method takes keyword options only, as in @hpc.method(num_returns=2)")
    _check_method_options(options)
    if "name" in options:
        raise ValueError("a name is given to calls, as in actor.step.options(name='first').remote(), not to a method")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        function.__hpc_method__ = options  # type: ignore[attr-defined]
        return function

    return decorate


def _check_method_options(options: dict[str, Any]) -> None:
    for name in options:
        if name not in METHOD_OPTIONS:
            raise ValueError(f"{name!r} is not an option of a method; there are: {', '.join(METHOD_OPTIONS)}")
    group = options.get("concurrency_group")
    if group is not None and not isinstance(group, str):
        raise TypeError(f"concurrency_group must be a string, not {type(group).__name__}")
    opts.name_text("the name of a call", options.get("name"))
    for name in ("num_returns", "retry_exceptions", "_generator_backpressure_num_objects"):
        if name in options:
            opts.check_options({name: options[name]}, actor=False)
    if "max_task_retries" in options:
        opts.check_options({"max_task_retries": options["max_task_retries"]}, actor=True)


def _with_options(known: MethodOptions, options: dict[str, Any]) -> MethodOptions:
    changes: dict[str, Any] = {}
    opts.check_generator(options.get("num_returns"), known.is_generator, "method")
    if options.get("num_returns") is not None:
        changes["num_returns"] = opts.returns(options["num_returns"])
    if "max_task_retries" in options:
        changes["retries"] = options["max_task_retries"]
    if "concurrency_group" in options:
        changes["group"] = options["concurrency_group"] or ""
    if "_generator_backpressure_num_objects" in options:
        changes["window"] = opts.window(options["_generator_backpressure_num_objects"])
    if "retry_exceptions" in options:
        changes["retry_exceptions"] = bool(options["retry_exceptions"])
    if options.get("name"):
        changes["name"] = options["name"]
    return known._replace(**changes)


class ActorMethod:
    """A method of an actor: call it with ``.remote()``. It holds the actor as a handle does, and not the handle, which
    keeps the methods that were asked for."""

    __module__ = "hpc.actor"
    __slots__ = ("_class", "_high", "_kind", "_low", "_name", "_options", "_ref", "_shared")

    def __init__(
        self, ref: ObjectRef[Any], class_name: str, shared: HandleOptions, name: str, options: MethodOptions
    ) -> None:
        self._ref = ref
        self._class = class_name
        self._shared = shared
        self._name = name
        self._options = options
        count, group = options.num_returns, options.group
        self._kind = CallKind(
            name,
            shared.retries if options.retries is None else options.retries,
            options.retry_exceptions,
            count,
            group,
            options.window,
            shared.out_of_order,
            shared.max_pending,
            class_name,
            shared.in_turn and count == 1 and not (group or options.window or options.name),
            options.name,
        )
        self._low, self._high = options.signature.low, options.signature.high

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self._name}() is a method of an actor: call {self._name}.remote() instead")

    def __reduce__(self) -> tuple[Any, ...]:  # without what its calls here are about
        return ActorMethod, (self._ref, self._class, self._shared, self._name, self._options)

    def options(self, **options: Any) -> ActorMethod:
        """The same method with other options."""
        _check_method_options(options)
        changed = _with_options(self._options, options)
        if changed.group and changed.group not in self._shared.groups:
            known = ", ".join(self._shared.groups) or "none"
            raise ValueError(f"actor class {self._class!r} has no concurrency group {changed.group!r}; it has: {known}")
        return ActorMethod(self._ref, self._class, self._shared, self._name, changed)

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """Not supported: task graphs are no part of this runtime."""
        raise NotImplementedError("task graphs (bind) are not supported")

    def _remote(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """``options(**options).remote(*args, **kwargs)``, as older programs write it."""
        method = self.options(**options) if options else self
        return method.remote(*(args or ()), **(kwargs or {}))

    def remote(self, /, *args: Any, **kwargs: Any) -> Any:
        """Submit a call. Returns an ObjectRef, a list of them for several return values, None for none; for a
        generator an ObjectRefGenerator. Raises TypeError for arguments that the method does not take, and
        PendingCallsLimitExceeded if the actor's max_pending_calls wait."""
        if kwargs or not self._low <= len(args) <= self._high:
            self._options.signature.check(args, kwargs)
        ref = self._ref
        client = ref._client
        try:
            if args or kwargs:
                data, refs, holds, _alive = pack_arguments(client, args, kwargs)
            else:
                data, refs, holds = NO_ARGUMENTS, (), ()
            context, kind = current_task.get(), self._kind
            task = client.call(kind, ref, data, refs, holds, b"" if context is None else context.task)
        except Collecting:
            return client.later(functools.partial(self.remote, *args, **kwargs))
        if kind.num_returns == 1:
            return ObjectRef(task, client)
        return references_to(client, task, kind.num_returns)


class ActorHandle:
    """A handle to an actor. It can be passed anywhere; the actor ends when the last handle is gone."""

    __module__ = "hpc.actor"

    def __init__(
        self, ref: ObjectRef[Any], class_name: str, methods: dict[str, MethodOptions], options: HandleOptions
    ) -> None:
        self._hpc_ref = ref
        self._hpc_class = class_name
        self._hpc_methods = methods
        self._hpc_options = options

    @property
    def _actor_id(self) -> ActorID:
        return ActorID(self._hpc_ref._id)

    def __getattr__(self, name: str) -> ActorMethod:
        known = self._hpc_methods.get(name) if not name.startswith("_hpc") else None
        if known is None:
            if name not in BUILT_IN:
                raise AttributeError(f"actor class {self.__dict__.get('_hpc_class')!r} has no method {name!r}")
            known = MethodOptions(signature=ANY if name == "__ray_call__" else TAKES_NOTHING)
        method = self.__dict__[name] = ActorMethod(self._hpc_ref, self._hpc_class, self._hpc_options, name, known)
        return method

    def __reduce__(self) -> tuple[Any, ...]:
        known = self.__dict__.get("_hpc_known")
        if known is None:  # made once for a handle: what a large class has takes longer to pickle than the rest
            known = self._hpc_known = pickle.dumps((self._hpc_class, self._hpc_methods, self._hpc_options))
        return (_handle, (self._hpc_ref, known))

    def __dir__(self) -> list[str]:
        return sorted(self._hpc_methods)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActorHandle) and other._hpc_ref == self._hpc_ref

    def __hash__(self) -> int:
        return hash(self._hpc_ref)

    def __repr__(self) -> str:
        return f"Actor({self._hpc_class}, {self._hpc_ref.hex()})"


@functools.lru_cache(maxsize=256)
def _known(data: bytes) -> tuple[str, dict[str, MethodOptions], HandleOptions]:
    known: tuple[str, dict[str, MethodOptions], HandleOptions] = pickle.loads(data)
    return known


def _handle(ref: ObjectRef[Any], known: bytes) -> ActorHandle:
    """A handle, from what its ``__reduce__`` gave."""
    handle = ActorHandle(ref, *_known(known))
    handle._hpc_known = known
    return handle


def methods_of(cls: type) -> dict[str, MethodOptions]:
    """Names of the methods that can be called remotely, with their options."""
    found: dict[str, MethodOptions] = {}
    for name, member in inspect.getmembers(cls, callable):
        special = name.startswith("__") and name.endswith("__")
        if isinstance(member, type) or (special and (not inspect.isfunction(member) or name in vars(ActorHandle))):
            continue
        generator = is_generator(inspect.unwrap(member))
        known = MethodOptions(STREAMING if generator else 1, signature=method_of(cls, name), is_generator=generator)
        found[name] = _with_options(known, getattr(member, "__hpc_method__", {}))
    return found


def _in_turn(cls: type, options: dict[str, Any]) -> bool:
    """Whether an actor of this class runs one call at a time, in their order."""
    several = opts.option(options, "max_concurrency") not in (None, 1) or opts.option(options, "concurrency_groups")
    return not (several or opts.option(options, "allow_out_of_order_execution") or has_coroutines(cls))


class ActorClassInheritanceException(TypeError):
    """A class statement names an actor class among its bases."""

    __module__ = "hpc.actor"


class ActorClass:
    """A class whose instances live in processes of their own: ``C.remote(...)`` makes one."""

    __module__ = "hpc.actor"

    def __init__(self, cls: type, options: dict[str, Any], like: ActorClass | None = None) -> None:
        if inspect.isabstract(cls):
            names = ", ".join(sorted(cls.__abstractmethods__))  # type: ignore[attr-defined]
            raise TypeError(
                f"no instance of the abstract class {cls.__name__!r} can be made: a derived class must have {names}"
            )
        self._cls = cls
        self._options = opts.check_options(options, actor=True)
        self._methods: dict[str, MethodOptions] = methods_of(cls) if like is None else like._methods
        self._signature: Signature = constructor_of(cls) if like is None else like._signature
        groups = tuple(self._options.get("concurrency_groups") or ())
        self._shared = HandleOptions(
            int(opts.option(self._options, "max_task_retries")),
            int(opts.option(self._options, "max_pending_calls")),
            bool(opts.option(self._options, "allow_out_of_order_execution")),
            groups,
            _in_turn(cls, self._options),
        )
        for name, known in self._methods.items():
            if known.group and known.group not in groups:
                raise ValueError(
                    f"method {name!r} is in the concurrency group {known.group!r}, which the actor's "
                    "concurrency_groups do not have"
                )
        self._client: Client | None = None
        self.__name__ = cls.__name__
        self.__qualname__ = cls.__qualname__
        self.__doc__ = cls.__doc__
        self.__module__ = cls.__module__

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{self.__name__} is an actor class: make an actor with {self.__name__}.remote()")

    def __getattr__(self, name: str) -> Any:
        """Attributes of the class: constants, static methods, class methods, plain functions."""
        cls = self.__dict__.get("_cls")
        if cls is None:  # on the way out of a pickle
            raise AttributeError(name)
        return getattr(cls, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._cls), "bind", "options", "remote"})

    def __repr__(self) -> str:
        return f"ActorClass({self.__name__})"

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        raise ActorClassInheritanceException(
            f"classes cannot inherit from the actor class {self.__name__!r}: inherit from the class as it was before "
            "@hpc.remote, and make the derived class an actor class"
        )

    @property
    def __ray_actor_class__(self) -> type:
        return self._cls

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_options": portable(self._options), "_client": None, "_fn": None, "_shape": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)

    def options(self, **options: Any) -> ActorClass:
        """The same class with other options; ``self`` stays as it is."""
        return ActorClass(self._cls, {**self._options, **options}, self)

    def bind(self, /, *args: Any, **kwargs: Any) -> Any:
        """Not supported: task graphs are no part of this runtime."""
        raise NotImplementedError("task graphs (bind) are not supported")

    def _remote(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None, **options: Any) -> ActorHandle:
        """``options(**options).remote(*args, **kwargs)``, as older programs write it."""
        return self.options(**options).remote(*(args or ()), **(kwargs or {}))

    def _prepare(self, client: Client) -> None:
        self._fn = export(client, self._cls, self.__name__)
        held, placement, strategy = opts.placement(self._options, actor=True)
        env = worker_env(client, self._options.get("runtime_env"))
        self._shape = shape_of(client, held, placement, strategy, env, True)
        self._group = process.group
        self._client = client

    def remote(self, /, *args: Any, **kwargs: Any) -> ActorHandle:
        """Make an actor. Returns a handle at once; calls wait until its constructor has run.

        Raises TypeError for arguments that the constructor does not take, ActorAlreadyExistsError (a ValueError) if the
        name is taken.
        """
        if kwargs or not self._signature.low <= len(args) <= self._signature.high:
            self._signature.check(args, kwargs)
        client = ensure_client()
        if self._client is not client or self._group is not process.group:
            self._prepare(client)
        options = self._options
        name, namespace = options.get("name"), options.get("namespace") or namespace_of(client)
        if opts.option(options, "get_if_exists"):
            if not name:
                raise ValueError("get_if_exists needs a name")
            found = find_actor(client, name, namespace)
            if found is not None:
                return found
        data, refs, holds, _alive = pack_arguments(client, args, kwargs)
        detached = options.get("lifetime") == "detached"
        if detached:
            ident = client.conversation.ask_head(lambda req: NewActor(req), ASK_S).data
        else:
            ident = client.new_id()
        meta = (ident, self.__qualname__, self._methods, self._shared)
        if name and not self._register(client, name, namespace, ident, meta):
            found = find_actor(client, name, namespace)
            if found is not None and opts.option(options, "get_if_exists"):
                return found
            raise ActorAlreadyExistsError(
                f"the name {name!r} is taken by another actor in namespace {namespace!r}; get_if_exists=True uses it"
            )
        create = {
            "name": name or "",
            "namespace": namespace,
            "max_concurrency": opts.option(options, "max_concurrency"),
            "concurrency_groups": dict(opts.option(options, "concurrency_groups") or {}),
            "class_name": self.__qualname__,
            "handles": self._shared,
        }
        restarts = int(opts.option(options, "max_restarts"))
        if restarts and name and not is_pinned(self._shape.strategy):
            create["moves"] = True
        msg = CreateActor(ident, 0, self._fn, self.__name__, data, create, (), refs, holds)
        if detached:
            client.keep_actor(msg, self._shape, restarts, ASK_S)
            return ActorHandle(client.values.adopt(ident), self.__qualname__, self._methods, self._shared)
        client.create_actor(msg, self._shape, restarts, name or "", namespace if name else "")
        return ActorHandle(ObjectRef(ident, client), self.__qualname__, self._methods, self._shared)

    def _register(self, client: Client, name: str, namespace: str, ident: bytes, meta: tuple[Any, ...]) -> bool:
        data = pickle.dumps(meta)
        return client.conversation.ask_head(lambda req: NameRegister(req, namespace, name, ident, data)).ok


def find_actor(client: Client, name: str, namespace: str) -> ActorHandle | None:
    """A handle to the actor of this name, or None."""
    answer = client.conversation.ask_head(lambda req: NameLookup(req, namespace, name))
    if not answer.ok:
        return None
    ident, class_name, methods, shared = pickle.loads(answer.data)
    return ActorHandle(client.values.adopt(ident), class_name, methods, shared)


def own_handle(client: Holder) -> ActorHandle:
    """A handle to the actor that this process is."""
    cls = process.code[process.actor_class]
    retries, most_pending, out_of_order, groups, in_turn = process.actor_options["handles"]
    shared = HandleOptions(retries, most_pending, out_of_order, tuple(groups), in_turn)
    return ActorHandle(client.values.adopt(process.actor), cls.__qualname__, methods_of(cls), shared)


def get_actor(name: str, namespace: str | None = None) -> ActorHandle:
    """A handle to the actor of this name. Raises ValueError if there is none, TypeError for what is no name."""
    if not name:
        raise ValueError("the name of an actor must not be empty")
    opts.name_text("the name of an actor", name)
    opts.name_text("namespace", namespace)
    client = ensure_client()
    space = namespace or namespace_of(client)
    handle = find_actor(client, name, space)
    if handle is None:
        raise ValueError(f"there is no actor named {name!r} in namespace {space!r}")
    return handle


def list_named_actors(all_namespaces: bool = False) -> list[Any]:
    """The names of the living named actors of this namespace, or {"name", "namespace"} of those of all."""
    client = ensure_client()
    space = "" if all_namespaces else namespace_of(client)
    found = msgspec.json.decode(client.conversation.ask_head(lambda req: NameLookup(req, space, "")).data)
    if all_namespaces:
        return [{"name": name, "namespace": where} for where, name in sorted(found)]
    return sorted(name for _, name in found)


def kill(actor: ActorHandle, *, no_restart: bool = True) -> None:
    """End an actor at once; calls that run or wait fail with ActorDiedError. Raises ActorHandleNotFoundError for a
    handle of an earlier session."""
    if not isinstance(actor, ActorHandle):
        raise ValueError(f"hpc.kill takes an actor's handle, not {type(actor).__name__}")
    client = actor._hpc_ref._client
    check_handle(actor._hpc_ref, current.client)
    client.kill(actor._hpc_ref._id, no_restart)


def exit_actor() -> None:
    """End the actor in which this is called: the call fails with ActorDiedError, as do those that have not begun; those
    that run end first. Its ``__ray_shutdown__`` and handlers of atexit are called. Raises TypeError elsewhere."""
    if process.exit_actor is None:
        raise TypeError("exit_actor() is for code that runs in an actor, and this process hosts none")
    process.exit_actor()
    raise ActorExit
