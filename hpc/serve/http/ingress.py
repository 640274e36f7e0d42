"""`serve.ingress`: a deployment's HTTP is an ASGI application, with the deployment's methods as routes of FastAPI."""

from __future__ import annotations

import copy
import inspect
import io
import threading
from collections.abc import Callable
from typing import Any

from hpc import cloudpickle
from hpc.serve.http.views import make_class_based_view

#: A method of this name makes the application in the replica, after the user's constructor.
BUILDER = "__serve_build_asgi_app__"


def ingress(app: Any = None) -> Callable[..., Any]:
    """Decorate a class: ``app`` answers its HTTP requests. ``app`` is a FastAPI or Starlette application or any
    other of ASGI, or a function that makes one in each replica.

    Routes of FastAPI that are methods of the class get the replica as ``self``. Without ``app`` the class has a method
    ``__serve_build_asgi_app__``. Called without a class it makes one. Raises ValueError for what is no class, and for
    a class with ``__call__``."""

    def decorate(cls: Any = None) -> type:
        cls = _Plain if cls is None else cls
        if not inspect.isclass(cls):
            raise ValueError("@serve.ingress must be used with a class.")
        if "__call__" in {name for base in cls.__mro__ for name in vars(base)}:
            raise ValueError("Classes passed to @serve.ingress may not have __call__ method.")
        if app is None and not hasattr(cls, BUILDER):
            raise ValueError(
                f"serve.ingress() called without an app argument requires {cls.__name__} to define `{BUILDER}`."
            )
        if _has_views(app):
            make_class_based_view(app, cls)
        return _wrapped(cls, app if app is None or inspect.isfunction(app) else Kept(app))

    return decorate


class _Plain:
    """The deployment of an application that is decorated by no class."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.args = args
        self.kwargs = kwargs


def is_ingress(cls: Any) -> bool:
    """Whether a class, or an object of one, was decorated by `ingress`."""
    return bool(getattr(cls, "_hpc_ingress", False))


def _has_views(app: Any) -> bool:
    """Whether it is of FastAPI, which is not imported for that."""
    return any(base.__module__.partition(".")[0] == "fastapi" for base in type(app).__mro__)


class Kept:
    """An application as it was when its class was decorated, pickled: what is added to it later is not this one's."""

    def __init__(self, app: Any) -> None:
        file = io.BytesIO()
        try:
            _Pickler(file).dump(app)
        except Exception as error:
            raise TypeError(f"Failed to serialize the ASGI app: {error}") from error
        self._data = file.getvalue()

    def load(self) -> Any:
        """Another one like it."""
        return cloudpickle.loads(self._data)


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """Pickles locks, which routers of FastAPI have, as new ones, and a state of starlette by what it holds."""

    def reducer_override(self, obj: Any) -> Any:
        """How an object is made again."""
        if type(obj) is _LOCK:
            return threading.Lock, ()
        if type(obj).__name__ == "State" and type(obj).__module__ == "starlette.datastructures":
            return type(obj), (obj._state,)
        return super().reducer_override(obj)


_LOCK = type(threading.Lock())


def _wrapped(cls: type, app: Any) -> type:
    class Ingress(cls):  # type: ignore[misc]
        _hpc_ingress = True

        async def __init__(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[misc]
            made = cls.__init__(self, *args, **kwargs)  # type: ignore[misc]
            if inspect.isawaitable(made):
                await made
            built = await _built(self, app)
            if built is not None:
                self._asgi_app = built

        def __init_subclass__(cls, **kwargs: Any) -> None:
            super().__init_subclass__(**kwargs)
            if not inspect.iscoroutinefunction(cls.__init__):
                raise TypeError(
                    f"{cls.__name__}.__init__ must be `async def`, and await super().__init__(...): it is a subclass "
                    "of a class decorated with @serve.ingress, whose __init__ is async"
                )

        @property
        def app(self) -> Any:
            """The application that answers."""
            return self._asgi_app

    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(Ingress, name, getattr(cls, name))
    if "app" in {name for base in cls.__mro__ for name in vars(base)}:
        del Ingress.app  # the class has its own
    return Ingress


async def _built(obj: Any, app: Any) -> Any:
    """The application of a replica."""
    if hasattr(type(obj), BUILDER):
        made = getattr(obj, BUILDER)()
        made = await made if inspect.isawaitable(made) else made
        if made is None:
            raise TypeError(f"`{BUILDER}` must return an ASGI app.")
        return made
    if isinstance(app, Kept):
        return app.load()
    if inspect.isfunction(app) and not _is_asgi_function(app):
        made = app()
        return await made if inspect.isawaitable(made) else made
    return app


def _is_asgi_function(function: Any) -> bool:
    """Whether a function is an application itself: a coroutine of scope, receive and send."""
    if not inspect.iscoroutinefunction(function):
        return False
    return len([one for one in inspect.signature(function).parameters.values() if one.default is one.empty]) == 3


def docs_path(app: Any) -> str:
    """Where an application of FastAPI shows its documentation; empty for others."""
    found = getattr(app, "docs_url", None)
    return found if isinstance(found, str) else ""


def route_patterns(app: Any) -> list[str]:
    """The paths of an application's routes, for metrics; [] where it says none."""
    return sorted(
        {
            path
            for route in copy.copy(getattr(app, "routes", []))
            if isinstance(path := getattr(route, "path", None), str)
        }
    )
