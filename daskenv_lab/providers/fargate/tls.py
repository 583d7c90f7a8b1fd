"""A fresh certificate for each cluster, and its way to the processes and the clients."""

from __future__ import annotations

import datetime
import warnings
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from daskenv_lab.providers.credentials import security_from

if TYPE_CHECKING:
    from collections.abc import Mapping

    import distributed


_PREFIX = "DASK_DISTRIBUTED__COMM__"
_DAYS = 365
_KEY_SIZE_CURVE = ec.SECP256R1()


class NotEncryptedWarning(UserWarning):
    """Whoever reaches the scheduler's port can run code on the cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """One self-signed EC certificate that scheduler, workers and clients show each other.

    Who holds the key is in; everybody else is refused. PEM texts.

    Examples
    --------
    >>> Tls.fresh().certificate.splitlines()[0]
    '-----BEGIN CERTIFICATE-----'
    """

    certificate: str
    key: str = field(repr=False)

    @classmethod
    def fresh(cls) -> Tls:
        """Make a certificate that was never used before, valid for a year."""
        key = ec.generate_private_key(_KEY_SIZE_CURVE)
        name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "daskenv")])
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            # A day back: the clocks of this machine and of AWS may differ.
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        written = key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return cls(certificate=certificate.public_bytes(pem).decode(), key=written.decode())

    @classmethod
    def from_dict(cls, written: Mapping[str, str]) -> Tls:
        """Make what `to_dict` wrote down."""
        return cls(certificate=written["certificate"], key=written["key"])

    def to_dict(self) -> dict[str, str]:
        """Write the material down, for the secret that holds it."""
        return asdict(self)

    def security(self) -> distributed.Security:
        """Give what a client needs."""
        import distributed

        return distributed.Security(
            require_encryption=True,
            tls_ca_file=self.certificate,
            tls_client_cert=self.certificate,
            tls_client_key=self.key,
        )


def chosen(security: Any) -> tuple[Tls | None, str]:
    """Give fresh TLS material, if the user's `security` brings none, and the scheduler's protocol.

    Warns
    -----
    NotEncryptedWarning
    """
    if security is None or security is True:
        return Tls.fresh(), "tls"
    if security is False:
        warnings.warn(
            "security=False: whoever reaches the scheduler's port can run code on the cluster; "
            "leave security out for mutual TLS",
            NotEncryptedWarning,
            stacklevel=3,
        )
        return None, "tcp"
    theirs = security_from(security)
    return None, "tls" if theirs and theirs.require_encryption else "tcp"


def variables(role: str) -> dict[str, str]:
    """Name the process variables of a scheduler or worker, and the part of `Tls` each holds.

    Dask reads its configuration, PEM texts included, from such variables in old and new versions.

    Examples
    --------
    >>> variables("worker")["DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY"]
    'key'
    """
    tls = f"{_PREFIX}TLS__"
    return {
        f"{tls}CA_FILE": "certificate",
        f"{tls}{role.upper()}__CERT": "certificate",
        f"{tls}{role.upper()}__KEY": "key",
    }


ENCRYPTED = {f"{_PREFIX}REQUIRE_ENCRYPTION": "True"}
"""The process variable with which scheduler and workers refuse a connection without TLS."""
