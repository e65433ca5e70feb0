"""Public keys of ECDH, looked at by `cryptography`; needs the extra `encryption`."""

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey


def is_on_p256(point: bytes) -> bool:
    """Whether bytes are a point of P-256 as SEC 1 section 2.3.3 writes it (NIST SP 800-56A, section 5.6.2.3.4)."""
    try:
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
    except ValueError:
        return False
    return True
