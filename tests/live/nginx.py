"""A deployment as the page on deploying prints it: nginx with TLS, and behind it a server on a port or a socket."""

import contextlib
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.live.pages import DEPLOY, blocks, filled_in
from tests.live.raw import TIMEOUT, RawSocket
from tests.live.servers import HOST, ROOT, environment
from tests.services import accepts_connections, free_port, stop_process, wait_until_ready

HOSTNAME = "chat.example.com"
APP = "tests.live.proxied:application"
CLIENT = "127.9.8.7"
# A test should not wait as long as a reader's server does.
HEADER_TIMEOUT, READ_TIMEOUT = 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What runs behind nginx; `workers` None is Daphne, which has none."""

    program: str
    unix: bool
    workers: int | None = None

    def __str__(self) -> str:
        return f"{self.program}-{'unix' if self.unix else 'tcp'}" + (f"-{self.workers}" if self.workers else "")


STACKS = (
    Stack(program="daphne", unix=False),
    Stack(program="daphne", unix=True),
    Stack(program="uvicorn", unix=False, workers=1),
    Stack(program="uvicorn", unix=False, workers=2),
    Stack(program="uvicorn", unix=True, workers=2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """A running deployment.

    `open_port` is a mistake: a port without TLS that nginx passes on instead of redirecting.
    """

    stack: Stack
    directory: Path
    server: subprocess.Popen[bytes]
    server_port: int
    tls_port: int
    plain_port: int
    open_port: int
    context: ssl.SSLContext

    def connect(self, port: int | None = None, *, source: str = CLIENT) -> RawSocket:
        """Connect to nginx: with TLS, or without it to the given port."""
        raw = RawSocket.open(HOST, port or self.tls_port, source=source)
        raw.authority = HOSTNAME
        if port is None:
            raw.connection = self.context.wrap_socket(raw.connection, server_hostname=HOSTNAME)
        return raw

    def logs(self) -> str:
        """Everything that nginx and the server have written so far."""
        return "".join(path.read_text(errors="replace") for path in sorted(self.directory.glob("*.log")))

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds, and let the server live meanwhile."""
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < deadline, self.logs()[-4000:]
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server.wait(timeout=0.02)


@contextlib.contextmanager
def deploy(
    stack: Stack,
    nginx: str,
    directory: Path,
    settings: dict[str, object],
    *,
    mistakes: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[Deployment]:
    """Run nginx and a server with the configuration and the command that the page prints, mistakes put in."""
    server_port, tls_port, plain_port, open_port = (free_port(HOST) for _ in range(4))
    context = make_certificates(directory)
    with contextlib.ExitStack() as running:
        server = running.enter_context(
            process(command_of(stack, directory, server_port), directory / "server.log", settings)
        )
        wait_until_ready(server, lambda: is_listening(stack, directory, server_port), directory / "server.log")
        upstream = f"unix:{directory}/asgi.sock" if stack.unix else f"{HOST}:{server_port}"
        configuration = filled_in(
            blocks(DEPLOY, "nginx")[0],
            {
                "server unix:/run/chat/asgi.sock;": f"server {upstream};",
                "listen 80;": f"listen {HOST}:{plain_port};",
                "listen 443 ssl;": f"listen {HOST}:{tls_port} ssl; listen {HOST}:{open_port};",
                "/etc/ssl/": f"{directory}/",
                "/var/log/nginx/": f"{directory}/",
                "client_header_timeout 10s;": f"client_header_timeout {HEADER_TIMEOUT}s;",
                "proxy_read_timeout 75s;": f"proxy_read_timeout {READ_TIMEOUT}s;",
                **mistakes,
            },
        )
        (directory / "chat.conf").write_text(configuration)
        (directory / "nginx.conf").write_text(around(directory))
        arguments = ["-p", str(directory), "-c", str(directory / "nginx.conf"), "-e", str(directory / "start.log")]
        proxy = running.enter_context(process([nginx, *arguments], directory / "nginx.log", {}))
        wait_until_ready(proxy, lambda: accepts_connections(HOST, tls_port), directory / "start.log")
        yield Deployment(
            stack=stack,
            directory=directory,
            server=server,
            server_port=server_port,
            tls_port=tls_port,
            plain_port=plain_port,
            open_port=open_port,
            context=context,
        )


@contextlib.contextmanager
def process(command: list[str], log: Path, settings: dict[str, object]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        started = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(settings, {"DJANGO_SETTINGS_MODULE": "tests.live.deployed"}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield started
    finally:
        stop_process(started, first=signal.SIGTERM)


def command_of(stack: Stack, directory: Path, port: int) -> list[str]:
    """The page's own command for a server, with another application, port, socket and number of workers."""
    (line,) = (
        line
        for block in blocks(DEPLOY, "bash")
        for line in block.splitlines()
        if line.startswith(stack.program) and ("asgi.sock" in line) is stack.unix
    )
    values = {"chat.asgi:application": APP}
    values |= {"/run/chat/": f"{directory}/"} if stack.unix else {"8000": str(port)}
    values |= {"--workers 4": f"--workers {stack.workers}"} if stack.workers else {}
    return [sys.executable, "-m", *shlex.split(filled_in(line, values))]


def is_listening(stack: Stack, directory: Path, port: int) -> bool:
    if not stack.unix:
        return accepts_connections(HOST, port)
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(directory / "asgi.sock"))
        return True
    return False


def around(directory: Path) -> str:
    """The rest of nginx's configuration, as a distribution brings it along."""
    temporary = "\n".join(
        f"    {kind}_temp_path {directory}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root nginx would give up its rights, and could not enter a test's directory.
    user = "user root;" if directory.owner() == "root" else ""
    return f"""{user}
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
events {{ worker_connections 256; }}
http {{
{temporary}
    include {directory}/chat.conf;
}}
"""


# Python 3.13 refuses what lacks the extensions that RFC 5280 demands.
SIGNS_CERTIFICATES = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


def make_certificates(directory: Path) -> ssl.SSLContext:
    """Write a certificate for the host and its key, and return a client's context that trusts their authority."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "The test's own authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOSTNAME)])
    root = (
        unsigned(authority, authority, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(SIGNS_CERTIFICATES, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    leaf = (
        unsigned(subject, authority, key)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOSTNAME)]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (directory / f"{HOSTNAME}.pem").write_bytes(leaf.public_bytes(pem))
    (directory / f"{HOSTNAME}.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ssl.create_default_context(cadata=root.public_bytes(pem).decode())


def unsigned(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
    )
