"""Certificates signed by themselves, as people make them to try something."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def make_certificate(
    folder: Path, *, names: Sequence[str] = ("localhost",), addresses: Sequence[str] = (), password: str | None = None
) -> tuple[Path, Path]:
    """Make a certificate for these names, and its key: two files in `folder`, in place of those of an earlier one."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sessiond")])
    day = timedelta(days=1)
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - day, now + day)
    listed = [*map(x509.DNSName, names), *(x509.IPAddress(ip_address(address)) for address in addresses)]
    if listed:
        unsigned = unsigned.add_extension(x509.SubjectAlternativeName(listed), critical=False)
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password is not None:
        hidden = serialization.BestAvailableEncryption(password.encode())
    folder.mkdir(exist_ok=True)
    certificate, key_file = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(unsigned.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden))
    return certificate, key_file
