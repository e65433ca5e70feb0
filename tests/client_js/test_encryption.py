"""encryption.js under Node: by itself, and together with Python's `cryptography`, both ways."""

import json
import os
from base64 import b64encode
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidTag

from channels_secure.codecs import FernetCodec
from channels_secure.rooms import key_messages, sealing
from tests.client_js.python_member import PythonMember, to_bytes
from tests.codecs import vectors
from tests.node import ROOT, run_node, run_tsc

SCRIPTS = ROOT / "tests" / "client_js"
STATIC = ROOT / "channels_secure" / "static" / "channels_secure"
TEXTS = ["", "hello", "grüße 👋", '{"type": "say"}', "x" * 5000]
SECRET = bytes(range(32))


def test_encryption_js_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FERNET_VECTORS", vectors.as_json())
    done = run_node("--test", SCRIPTS / "encryption.test.js")
    assert done.returncode == 0, done.stdout


def test_its_types_hold() -> None:
    options = ["--noEmit", "--allowJs", "--checkJs", "--strict", "--module", "esnext", "--target", "es2022"]
    done = run_tsc(*options, "--lib", "es2023,dom,dom.iterable", STATIC / "encryption.js")
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> tuple[PythonMember, PythonMember, dict[str, Any]]:
    """A member in Python, one under Node, whose key Python has made, and what came of their meeting."""
    ours, theirs = PythonMember("rot und blau"), PythonMember("rot und blau")
    holders = [{"user": {"id": pk, "name": str(pk)}, "key": one.key} for pk, one in ((1, ours), (2, theirs))]
    box = ours.wrap(SECRET, 1, theirs.key)
    sealed = ours.seal(SECRET, "from Python: grüße", epoch=1, stream=os.urandom(16), n=1)
    task = {
        "key": vectors.KEY,
        "tokens": [FernetCodec(keys=[vectors.KEY]).encode(text) for text in TEXTS],
        "texts": TEXTS,
        "room": ours.room,
        "me": {"id": 2, "key": theirs.key, "pkcs8": b64encode(theirs.pkcs8).decode()},
        "state": {"type": "keys.state", "epoch": 1, "members": holders, "maker": holders[0], "box": box},
        "said": {"type": "room.said", "id": "m", "user": holders[0]["user"], "at": "", "sealed": sealed},
    }
    file = tmp_path_factory.mktemp("interop") / "task.json"
    file.write_text(json.dumps(task))
    done = run_node(SCRIPTS / "encryption_interop.js", file)
    assert done.returncode == 0, done.stdout
    return ours, theirs, json.loads(done.stdout)


Met = tuple[PythonMember, PythonMember, dict[str, Any]]


def test_node_reads_pythons_tokens_and_python_nodes(met: Met) -> None:
    assert met[2]["decoded"] == TEXTS
    codec = FernetCodec(keys=[vectors.KEY])
    assert [codec.decode(token) for token in met[2]["encoded"]] == TEXTS


def test_node_opens_what_python_sealed_with_a_room_key_that_python_wrapped(met: Met) -> None:
    assert met[2]["heard"] == "from Python: grüße"


def test_python_opens_what_node_sealed_with_that_room_key(met: Met) -> None:
    ours, theirs, came = met
    first, *_ = said(came)
    assert ours.open(SECRET, first, theirs.key) == "from Node: grüße"


def test_python_opens_the_room_key_that_node_made_and_what_was_sealed_with_it(met: Met) -> None:
    ours, theirs, came = met
    (rotation,) = [message for message in came["asked"] if message["type"] == "keys.rotate"]
    boxes = {box["to"]: box["box"] for box in rotation["boxes"]}
    assert boxes.keys() == {ours.fingerprint, theirs.fingerprint}
    secret = ours.unwrap(boxes[ours.fingerprint], 2, theirs.key)
    assert secret == theirs.unwrap(boxes[theirs.fingerprint], 2, theirs.key) != SECRET
    assert ours.open(secret, said(came)[-1], theirs.key) == "with a new room key"
    with pytest.raises(InvalidTag):
        ours.unwrap(boxes[ours.fingerprint], 3, theirs.key)


def test_what_node_sends_has_the_shape_that_the_server_takes(met: Met) -> None:
    ours, _, came = met
    for message in said(came):
        msgspec.convert(message, sealing.Sealed)
    for message in came["asked"]:
        if message["type"] in ("keys.rotate", "keys.publish"):
            schema = key_messages.Rotate if message["type"] == "keys.rotate" else key_messages.Publish
            msgspec.convert({name: value for name, value in message.items() if name != "type"}, schema)
    assert len(to_bytes(ours.key)) == 65


def said(came: dict[str, Any]) -> list[dict[str, Any]]:
    return [message["sealed"] for message in came["asked"] if message["type"] == "room.say"]
