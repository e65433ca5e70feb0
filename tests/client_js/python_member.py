"""A member of a sealed room in Python, from docs/explanation/encryption.md alone: what the two sides must agree on."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from hashlib import sha256
from os import urandom
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


def to_text(data: bytes) -> str:
    return urlsafe_b64encode(data).decode().rstrip("=")


def to_bytes(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def context(*parts: str | int) -> bytes:
    return json.dumps(["channels_secure/1", *parts], separators=(",", ":"), ensure_ascii=False).encode()


def derive(secret: bytes, salt: bytes, info: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), 32, salt, info).derive(secret))


@dataclass(frozen=True, slots=True)
class PythonMember:
    room: str
    private: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def key(self) -> str:
        encoding, shape = serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        return to_text(self.private.public_key().public_bytes(encoding, shape))

    @property
    def fingerprint(self) -> str:
        return sha256(to_bytes(self.key)).hexdigest()

    @property
    def pkcs8(self) -> bytes:
        encoding, shape = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
        return self.private.private_bytes(encoding, shape, serialization.NoEncryption())

    def shared(self, other: str) -> bytes:
        point = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), to_bytes(other))
        return self.private.exchange(ec.ECDH(), point)

    def wrap(self, secret: bytes, epoch: int, other: str) -> str:
        about = context("room key", self.room, epoch, self.fingerprint, sha256(to_bytes(other)).hexdigest())
        salt, nonce = urandom(32), urandom(12)
        return to_text(salt + nonce + derive(self.shared(other), salt, about).encrypt(nonce, secret, about))

    def unwrap(self, box: str, epoch: int, maker: str) -> bytes:
        data = to_bytes(box)
        about = context("room key", self.room, epoch, sha256(to_bytes(maker)).hexdigest(), self.fingerprint)
        return derive(self.shared(maker), data[:32], about).decrypt(data[32:44], data[44:], about)

    def seal(self, secret: bytes, text: str, *, epoch: int, stream: bytes, n: int) -> dict[str, Any]:
        cipher = derive(secret, stream, context("stream", self.room, epoch, self.fingerprint))
        about = context("message", self.room, epoch, self.fingerprint, to_text(stream), n)
        box = cipher.encrypt(n.to_bytes(12), json.dumps({"text": text, "at": 0}).encode(), about)
        return {"epoch": epoch, "stream": to_text(stream), "n": n, "box": to_text(box)}

    def open(self, secret: bytes, sealed: dict[str, Any], sender: str) -> str:
        fingerprint, n = sha256(to_bytes(sender)).hexdigest(), sealed["n"]
        cipher = derive(secret, to_bytes(sealed["stream"]), context("stream", self.room, sealed["epoch"], fingerprint))
        about = context("message", self.room, sealed["epoch"], fingerprint, sealed["stream"], n)
        plain = cipher.decrypt(n.to_bytes(12), to_bytes(sealed["box"]), about)
        return str(json.loads(plain)["text"])
