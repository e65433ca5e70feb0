"""`wss://`: a certificate that nobody vouches for is no connection, and no reason to try again."""

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from channels_secure.client import Refused, SecureSocket
from tests.client.scripted import HOST, Script, running, soon


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A file with a key and the certificate that it signed for itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "loopback")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = tmp_path / "loopback.pem"
    file.write_bytes(key.private_bytes(*pem) + made.public_bytes(serialization.Encoding.PEM))
    return file


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    """The server's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def test_a_certificate_that_nobody_vouches_for_is_final(context: ssl.SSLContext) -> None:
    async with running(Script(), context) as script:
        with pytest.raises(Refused, match="SSLCertVerificationError"):
            await soon(script).__aenter__()
    assert script.requests == []


async def test_one_that_is_trusted_opens(context: ssl.SSLContext, certificate: Path) -> None:
    script = Script()
    script.acts.append(script.listens())
    async with running(script, context), soon(script, ssl=ssl.create_default_context(cafile=certificate)) as socket:
        assert await socket.request({"type": "ask"}) == {"type": "answered", "ref": "cs-1"}


def test_a_context_for_an_unencrypted_url_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="wss"):
        SecureSocket("ws://127.0.0.1/", ssl=ssl.create_default_context())
