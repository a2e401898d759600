"""Reads the certificate that logs in instead of a client secret: PEM, or PKCS #12 (.pfx, .p12).

First stop of the road, before any network. Key and certificate leave as PEM text in one form, whatever file they
came from.
"""

from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    pkcs12,
)


@dataclass(frozen=True)
class Certificate:
    """A private key and the public certificate that belongs to it, both PEM text.

    Attributes:
        private_key: Unencrypted PKCS #8; never shown.
        public_certificate: The one certificate registered with the application.
    """

    private_key: str = field(repr=False)
    public_certificate: str


def read_certificate(source: str, password: str | None = None) -> Certificate:
    """Read the login certificate with its private key.

    Args:
        source: Path of a PEM file holding both, in any order, or of a .pfx/.p12 file; or such PEM text itself.
        password: Of the private key or the .pfx file; None where there is none.

    Raises:
        ValueError: The file cannot be read, or key and certificate are missing, locked or do not match; the text
            is fit for users and names no secret.
    """
    secret = password.encode() if password else None
    try:
        content = source.encode() if is_pem(source) else Path(source).read_bytes()
    except OSError as exc:
        reason = f"cannot be read ({exc.strerror})"
        raise ValueError(reason) from exc
    try:
        key, certificates = _parse(content, secret)
    except (ValueError, TypeError) as exc:
        reason = "holds no usable private key (is the password right? PEM and .pfx are understood)"
        raise ValueError(reason) from exc
    return _paired(key, certificates)


def describe_source(source: str) -> str:
    """How a fault may name the certificate: by its path, never by its text."""
    return "(PEM text)" if is_pem(source) else source


def is_pem(source: str) -> bool:
    """Whether a source is PEM text itself, no path."""
    return source.lstrip().startswith("-----BEGIN")


def _parse(content: bytes, secret: bytes | None) -> tuple[object, list[x509.Certificate]]:
    if b"-----BEGIN" in content:
        return load_pem_private_key(content, secret), x509.load_pem_x509_certificates(content)
    key, first, others = pkcs12.load_key_and_certificates(content, secret)
    return key, [first, *others] if first else others


def _paired(key: object, certificates: list[x509.Certificate]) -> Certificate:
    if not isinstance(key, RSAPrivateKey):
        reason = "holds no RSA private key"
        raise ValueError(reason)  # noqa: TRY004 - the file is wrong, not a type in the program
    wanted = _public_bytes(key.public_key())
    for certificate in certificates:
        if _public_bytes(certificate.public_key()) == wanted:
            return Certificate(
                private_key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode(),
                public_certificate=certificate.public_bytes(Encoding.PEM).decode(),
            )
    reason = "holds no certificate for its private key"
    raise ValueError(reason)


def _public_bytes(key: object) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]
