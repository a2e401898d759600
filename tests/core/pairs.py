"""Makes a login certificate with its key, as an administrator would."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)


def write_pair(folder: Path, *, password: bytes | None = None, pfx: bool = False, other_key: bool = False) -> Path:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    signer = rsa.generate_private_key(public_exponent=65537, key_size=2048) if other_key else key
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "igh-sync test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, signer.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(signer, hashes.SHA256())
    )
    lock = BestAvailableEncryption(password) if password else NoEncryption()
    if pfx:
        path = folder / "login.pfx"
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"login", key, certificate, None, lock))
    else:
        path = folder / "login.pem"
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock)
        path.write_bytes(certificate.public_bytes(Encoding.PEM) + private)
    return path
