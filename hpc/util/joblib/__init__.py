"""joblib's ``Parallel`` (and with it scikit-learn's ``n_jobs``) on all nodes of the session.

joblib is read when `register` is called, and is no requirement of this package.
"""

from __future__ import annotations

#: The names under which the backend can be chosen.
NAMES = ("hpc", "ray")


def register() -> None:
    """Make the backend known to joblib: then ``joblib.parallel_config(backend="hpc")``, or "ray", chooses it.

    Raises ImportError if joblib is not installed.
    """
    try:
        from joblib.parallel import register_parallel_backend
    except ImportError as error:
        raise ImportError(
            "hpc.util.joblib needs joblib, which is not installed here: pip install joblib (scikit-learn brings it)"
        ) from error
    from hpc.util.joblib.backend import HpcBackend

    for name in NAMES:
        register_parallel_backend(name, HpcBackend)


register_ray = register

__all__ = ["register", "register_ray"]
