"""The system check of what consumers say that they send."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict

import msgspec
import pytest
from django.core.checks import CheckMessage
from pydantic import BaseModel

from channels_secure.checks import consumers as checks
from channels_secure.consumers import SecureJsonConsumer
from tests.asyncapi.wire import Joined, Left, Said


class Untagged(msgspec.Struct):
    text: str


class TaggedElsewhere(msgspec.Struct, tag="x", tag_field="kind"):
    text: str


class AnyType(msgspec.Struct):
    type: str


class LeavesOut(msgspec.Struct, omit_defaults=True):
    type: Literal["left.out"] = "left.out"


class TaggedAndLeavesOut(msgspec.Struct, omit_defaults=True, tag="x", tag_field="type"):
    text: str = ""


class Modelled(BaseModel):
    type: Literal["modelled"] = "modelled"


class Typed(TypedDict):
    type: Annotated[Literal["one", "two"], msgspec.Meta(description="which")]


class Lost(msgspec.Struct):
    a: "Nowhere"  # type: ignore[name-defined]  # noqa: F821


class Broken(msgspec.Struct):
    a: "1 +"  # type: ignore[syntax]  # noqa: F722


class Absent(msgspec.Struct):
    a: "msgspec.Nowhere"  # type: ignore[name-defined]


@dataclass
class Bare:
    user: str


@pytest.fixture(autouse=True)
def _only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "declared_consumers", lambda: {Sending})


class Sending(SecureJsonConsumer):
    pass


def found(monkeypatch: pytest.MonkeyPatch, sends: Any) -> list[CheckMessage]:
    monkeypatch.setattr(Sending, "sends", sends)
    return checks.check_consumers(None)


@pytest.mark.parametrize("kind", [Said, Left, Joined, Left | Joined, TaggedAndLeavesOut, Modelled, Typed])
def test_w012_is_silent_about_types_that_can_be_told_apart(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    assert found(monkeypatch, (kind,)) == []


@pytest.mark.parametrize("kind", [Untagged, TaggedElsewhere, AnyType, LeavesOut, Bare, dict[str, int], list[int]])
def test_w012_a_type_that_cannot_be_told_from_others(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    (message,) = found(monkeypatch, (Said, kind))
    assert message.id == "channels_secure.W012"
    assert message.obj is Sending
    assert message.msg.startswith(f"Sending.sends: {kind.__name__} has neither a tag nor a member `type`")


@pytest.mark.parametrize(
    ("sends", "words"),
    [
        (Said, "Sending.sends is a tuple of types"),
        ((len,), "Sending.sends: len: "),
        ((Lost,), "Sending.sends: Lost: name 'Nowhere' is not defined"),
        ((Broken,), "Sending.sends: Broken: "),
        ((Absent,), "Sending.sends: Absent: "),
    ],
)
def test_w012_what_cannot_be_described(monkeypatch: pytest.MonkeyPatch, sends: Any, words: str) -> None:
    (message,) = found(monkeypatch, sends)
    assert message.id == "channels_secure.W012"
    assert message.msg.startswith(words)
