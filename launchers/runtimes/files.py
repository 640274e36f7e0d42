"""Files that only this user may read: tokens, keys and certificates of a runtime, in the folder of its job."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress

from hpc.launchers.runtimes.face import RuntimeFault

CERTIFICATE, KEY = "certificate.pem", "key.pem"
#: How long a certificate is good: longer than any job.
VALID_DAYS = 365
#: Clocks of nodes may be that far behind ours.
SKEW = datetime.timedelta(days=1)
OPENSSL_S = 30.0


def write_secret(path: str, text: str) -> None:
    """A new file of mode 0600; RuntimeFault where it cannot be written."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(fd)  # nodes read it through a file server
    except OSError as error:
        raise RuntimeFault(f"{path} cannot be written", why=str(error), fix="--job-dir=DIR") from None


def remove_secrets(folder: str) -> None:
    """The folder with all its files; what is gone already is no error."""
    shutil.rmtree(folder, ignore_errors=True)


def write_certificate(folder: str) -> tuple[str, str]:
    """A certificate that signs itself, and its key, for one job: the paths of both. RuntimeFault without a tool."""
    cert, key = os.path.join(folder, CERTIFICATE), os.path.join(folder, KEY)
    try:
        cert_text, key_text = _by_library()
    except ImportError:
        cert_text, key_text = _by_command(folder)
    write_secret(key, key_text)
    write_secret(cert, cert_text)
    return cert, key


def _by_library() -> tuple[str, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "hpc job")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return made.public_bytes(serialization.Encoding.PEM).decode(), secret.decode()


def _by_command(folder: str) -> tuple[str, str]:
    """With openssl, where the library is not there. Its certificate is good from now on."""
    key = os.path.join(folder, "made.key")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key]
    command = ["openssl", "req", "-x509", *curve, "-days", str(VALID_DAYS), "-subj", "/CN=hpc job"]
    old = os.umask(0o077)
    try:
        made = _run([*command, "-addext", "basicConstraints=critical,CA:TRUE,pathlen:0"])
        with open(key) as file:
            return made, file.read()
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "stderr", None) or str(error)
        what = "a certificate cannot be made: there is neither the package cryptography nor a working openssl"
        raise RuntimeFault(what, why=str(why).strip()[-400:], fix="pip install cryptography") from None
    finally:
        os.umask(old)
        with suppress(OSError):
            os.unlink(key)


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(
        list(command), capture_output=True, text=True, check=True, timeout=OPENSSL_S, stdin=subprocess.DEVNULL
    )
    return done.stdout
