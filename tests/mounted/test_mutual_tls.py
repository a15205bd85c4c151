"""The page on client certificates, with a real nginx: who has one gets in, and nobody else, whatever they claim."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from servers import ROOT, RawStream, free_port, serving, uvicorn
from test_docs import blocks, proxy

PAGE = ROOT / "docs" / "how-to" / "mutual-tls.md"
ASK = "GET /events?topic=orders/eu HTTP/1.1\r\nHost: app.example\r\nAccept: text/event-stream\r\n"
FORGED = "X-Client-Verified: SUCCESS\r\nX-Client-Subject: CN=billing,O=Example\r\n"


def name_of(common: str, organisation: str) -> x509.Name:
    """Return a subject whose text begins with its common name, as nginx writes it."""
    parts = [(NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common)]
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])


@dataclass(frozen=True)
class Authority:
    """A CA of one test."""

    folder: Path
    name: x509.Name
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def made(cls, folder: Path, title: str) -> Authority:
        """Make one, and write its certificate as ``<title>.pem``."""
        authority = cls(folder, name_of(title, "Example"), ec.generate_private_key(ec.SECP256R1()))
        authority.issue(title, authority.name, authority.key, ca=True)
        return authority

    def issue(self, file: str, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool = False) -> Path:
        """Write a certificate and its key into one file."""
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .sign(self.key, hashes.SHA256())
        )
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        path = self.folder / f"{file}.pem"
        path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
        return path

    def service(self, file: str, common: str, organisation: str = "Example") -> Path:
        """Issue a certificate to a service."""
        return self.issue(file, name_of(common, organisation), ec.generate_private_key(ec.SECP256R1()))


@dataclass(frozen=True)
class Site:
    """nginx in front of the app of the page."""

    folder: Path
    nginx: int
    app: int
    services: Authority

    @asynccontextmanager
    async def through(self, certificate: Path | None, headers: str = "") -> AsyncIterator[RawStream]:
        """Ask through nginx, with a certificate or without."""
        context = ssl.create_default_context(cafile=self.folder / "cert.pem")
        if certificate is not None:
            context.load_cert_chain(certificate)
        link = await asyncio.open_connection("127.0.0.1", self.nginx, ssl=context, server_hostname="app.example")
        async with answered(link, headers) as stream:
            yield stream

    @asynccontextmanager
    async def around(self, source: str, headers: str = "") -> AsyncIterator[RawStream]:
        """Ask the app itself, from an address of this machine."""
        link = await asyncio.open_connection("127.0.0.1", self.app, local_addr=(source, 0))
        async with answered(link, headers) as stream:
            yield stream


@asynccontextmanager
async def answered(link: tuple[asyncio.StreamReader, asyncio.StreamWriter], headers: str) -> AsyncIterator[RawStream]:
    """Send the request and read the head of its answer."""
    reader, writer = link
    writer.write(f"{ASK}{headers}\r\n".encode())
    stream = RawStream(reader, writer)
    try:
        async with asyncio.timeout(30.0):
            stream.status = int((await reader.readline()).split()[1])
            while (line := (await reader.readline()).strip()) != b"":
                field, _, value = line.decode("latin-1").partition(":")
                stream.headers[field.lower()] = value.strip()
        yield stream
    finally:
        writer.transport.abort()


@pytest.fixture
def site(tmp_path: Path, nginx_path: str) -> Iterator[Site]:
    """Serve the app and the nginx of the page."""
    (code,) = [block.code for block in blocks(PAGE) if block.language == "python"]
    (config,) = [block for block in blocks(PAGE) if block.language == "nginx"]
    (tmp_path / "page_app.py").write_text(code)
    services = Authority.made(tmp_path, "services-ca")
    listen = free_port()
    env = {"PYTHONPATH": str(tmp_path)}
    with uvicorn("page_app:app", tmp_path / "app.log", "--no-proxy-headers", env=env) as app:
        placed = proxy(config, tmp_path, listen=listen, hub=app.port)
        own, theirs = tmp_path / "cert.pem", tmp_path / "services-ca.pem"
        text = placed.path.read_text()
        assert f"ssl_client_certificate {own};" in text
        placed.path.write_text(text.replace(f"ssl_client_certificate {own};", f"ssl_client_certificate {theirs};"))
        with serving(nginx_path, *placed.arguments, port=listen, log=tmp_path / "nginx.log"):
            yield Site(tmp_path, listen, app.port, services)


async def test_a_certificate_of_a_known_service_opens_a_stream(site: Site) -> None:
    """Nginx verifies it, and the stream is of the service it names."""
    async with site.through(site.services.service("billing", "billing")) as stream:
        assert stream.status == 200
        assert '"subject":"billing"' in (await stream.until("auth", patience=30.0)).data


async def test_without_the_right_certificate_nobody_gets_in(site: Site) -> None:
    """None, one of another CA, one of an unknown service, and one that only holds the name: refused all the same."""
    stranger = Authority.made(site.folder, "strangers").service("stranger", "billing")
    other = site.services.service("other", "mallory")
    holding = site.services.service("holding", "mallory", "x,CN=billing,O=Example")
    for certificate, status in ((None, 401), (stranger, 400), (other, 401), (holding, 401)):
        for headers in ("", FORGED):
            async with site.through(certificate, headers) as answer:
                assert answer.status == status, (certificate, headers)


async def test_the_header_counts_from_the_proxy_alone(site: Site) -> None:
    """Another address says the same and is nobody; the check can fail, for from the proxy's own it would count."""
    async with site.around("127.0.0.2", FORGED) as answer:
        assert answer.status == 401
    async with site.around("127.0.0.1", FORGED) as answer:
        assert answer.status == 200
