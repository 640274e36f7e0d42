"""The submitter's side of packages: directories and files become URIs, uploaded once per content."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from hpc.core.owner.shell.client import Client
from hpc.core.runenv.package import MAX_PACKAGE_BYTES, PackageError, digest_of, files_of, make_zip, signature
from hpc.core.runenv.spec import CHUNK_BYTES, NAMESPACE, PACKAGE, chunk_key, meta_key
from hpc.core.wire import KvGet, KvPut

#: URIs by session and by what they were made from: a directory that has not changed is not packed again.
_made: dict[tuple[Any, ...], str] = {}


def upload(client: Client, path: str, excludes: Iterable[str] = (), *, as_module: bool = False) -> str:
    """The URI of a directory, or of a zip, wheel or Python file, whose content the head has afterwards.

    ``as_module``: the directory is a Python package, found by its own name. Raises PackageError.
    """
    path = os.path.abspath(os.path.expanduser(path))
    session = client.registered.session
    if os.path.isdir(path):
        files = files_of(path, excludes)
        prefix = os.path.basename(path) + "/" if as_module else ""
        root = path
    elif path.endswith((".zip", ".whl")):
        return _upload_file(client, path)
    elif path.endswith(".py") and os.path.isfile(path):
        root, prefix, files = os.path.dirname(path), "", [os.path.basename(path)]
    else:
        raise PackageError(f"{path} is neither a directory nor a .zip, .whl or .py file on this machine")
    key = (session, root, prefix, signature(root, files))
    uri = _made.get(key)
    if uri is None:
        uri = _made[key] = put(client, make_zip(root, files, prefix), path)
    return uri


def _upload_file(client: Client, path: str) -> str:
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PACKAGE_BYTES + 1)
    except OSError as error:
        raise PackageError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_PACKAGE_BYTES:
        raise PackageError(
            f"{path} has more than {MAX_PACKAGE_BYTES >> 20} MiB; where every node sees it, name it as 'file://{path}'"
        )
    return put(client, data, path)


def put(client: Client, data: bytes, path: str) -> str:
    """The URI of these bytes, which the head has afterwards. Raises PackageError, which names ``path``."""
    digest = digest_of(data)
    if not client.conversation.ask_head(lambda req: KvGet(req, NAMESPACE, meta_key(digest))).ok:
        count = max(1, -(-len(data) // CHUNK_BYTES))
        for index in range(count):
            piece = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            _put_key(client, chunk_key(digest, index), piece, path)
        _put_key(client, meta_key(digest), str(count).encode(), path)
    return PACKAGE + digest


def _put_key(client: Client, key: bytes, value: bytes, path: str) -> None:
    answer = client.conversation.ask_head(lambda req: KvPut(req, NAMESPACE, key, value))
    if not answer.ok:
        raise PackageError(f"the package of {path} cannot be uploaded: {answer.why}")
