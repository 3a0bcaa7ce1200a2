"""How the server that has just started is called with curl, on its own machine."""

from __future__ import annotations

import shlex
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from sessiond.settings import Settings


def make_curl(url: str, settings: Settings) -> str:
    """Return the beginning of a curl line, up to the path."""
    url = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")  # all at once is none to call
    if settings.tls_certificate is None:
        return f"curl -sS {url}"
    return " ".join(["curl -sS", *_trusting(url, settings.tls_certificate)])


def _trusting(url: str, file: str) -> list[str]:
    """Return what makes curl believe a certificate, and the URL by a name that stands in it."""
    from cryptography import x509

    # It names nobody whom a URL could, or nobody who can be read: to try something on one's own machine only.
    unbelieved = ["--insecure", url]
    try:
        certificate = x509.load_pem_x509_certificates(Path(file).read_bytes())[0]
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return unbelieved
    options = ["--cacert", shlex.quote(file)] if certificate.issuer == certificate.subject else []
    address, port = urlsplit(url).hostname or "", urlsplit(url).port
    if ip_address(address) in names.get_values_for_type(x509.IPAddress):
        return [*options, url]
    name = next((name for name in names.get_values_for_type(x509.DNSName) if "*" not in name), None)
    if name is None:
        return unbelieved
    place = f"[{address}]" if ":" in address else address
    return [*options, "--resolve", shlex.quote(f"{name}:{port}:{place}"), shlex.quote(f"https://{name}:{port}")]
