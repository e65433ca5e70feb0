"""The test vectors of the Fernet specification (github.com/fernet/spec), as one table; times are Unix seconds."""

import json
from dataclasses import asdict, dataclass

KEY = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4="
TEXT = "hello"
IV = bytes(range(16))
MADE_AT, READ_AT, TTL = 499162800, 499162801, 60
TOKEN = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA=="


@dataclass(frozen=True, slots=True)
class Bad:
    """A token that must be refused; `genuine` says that its signature is right, and only something else is wrong."""

    what: str
    token: str
    genuine: bool
    now: int = READ_AT
    ttl: int = TTL


BAD = (
    Bad(
        "incorrect mac",
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykQUFBQUFBQUFBQQ==",
        genuine=False,
    ),
    Bad("too short", "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPA==", genuine=False),
    Bad(
        "invalid base64",
        "%%%%%%%%%%%%%AECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        genuine=False,
    ),
    Bad(
        "payload size not multiple of block size",
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPOm73QeoCk9uGib28Xe5vz6oxq5nmxbx_v7mrfyudzUm",
        genuine=True,
    ),
    Bad(
        "payload padding error",
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0ODz4LEpdELGQAad7aNEHbf-JkLPIpuiYRLQ3RtXatOYREu2FWke6CnJNYIbkuKNqOhw==",
        genuine=True,
    ),
    Bad(
        "far-future timestamp",
        "gAAAAAAdwStRAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAnja1xKYyhd-Y6mSkTOyTGJmw2Xc2a6kBd-iX9b_qXQcw==",
        genuine=True,
    ),
    Bad(
        "expired",
        "gAAAAAAdwJ6xAAECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAl1-szkFVzXTuGb4hR8AKtwcaX1YdykRtfsH-p1YsUD2Q==",
        genuine=True,
        now=499162891,
    ),
    Bad(
        "incorrect IV, which causes a padding error",
        "gAAAAAAdwJ6xBQECAwQFBgcICQoLDA0OD3HkMATM5lFqGaerZ-fWPAkLhFLHpGtDBRLRTZeUfWgHSv49TF2AUEZ1TIvcZjK1zQ==",
        genuine=True,
    ),
)


def as_json() -> str:
    """The same table for tests that run under Node."""
    good = {"key": KEY, "text": TEXT, "iv": list(IV), "madeAt": MADE_AT, "readAt": READ_AT, "ttl": TTL, "token": TOKEN}
    return json.dumps({"good": good, "bad": [asdict(bad) for bad in BAD]})
