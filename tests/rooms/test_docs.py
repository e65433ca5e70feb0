"""The pages on rooms say what the code says."""

import re
from itertools import chain

import msgspec

from channels_secure.consumers.handlers import declarations
from channels_secure.rooms import answers, membership, moderation, presence
from channels_secure.rooms.consumers import RoomConsumer
from channels_secure.rooms.models import Attendance, Membership, Room
from channels_secure.rooms.models.room import LONGEST_SLOW_MODE
from channels_secure.rooms.roles import Act, Role, may
from tests.test_docs import REFERENCE, ROOT, rows

PAGE = REFERENCE / "rooms.md"
GUIDE = ROOT / "docs" / "howto" / "rooms.md"


def section(heading: str) -> list[list[str]]:
    """The rows of a section's tables, of those whose first cell is code."""
    _, _, rest = PAGE.read_text().partition(f"## {heading}\n")
    lines = [line for line in rest.partition("\n## ")[0].split("\n") if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0].startswith("`")]


def words(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def test_the_table_of_roles_is_the_one_in_force() -> None:
    seen = set()
    for acts, *cells in section("Who may do what"):
        for act in words(acts):
            seen.add(act)
            for role, cell in zip(Role, cells, strict=True):
                reaches = [other for other in Role if may(Act(act), role, other, Role.GUEST)]
                is_of_room = act == Act.SLOW
                assert (cell != "no") is (may(Act(act), role) if is_of_room else bool(reaches)), (act, role)
                if cell.startswith("lower"):
                    assert reaches == list(Role)[list(Role).index(role) + 1 :], (act, role)
    assert seen == set(Act)


def test_every_message_of_a_client_is_documented() -> None:
    own = {each.type for _, each in declarations(RoomConsumer)}
    documented = {words(row[0])[0] for row in section("What the client sends")}
    assert {name for name in own if name.startswith("room.")} <= documented
    assert documented - {"permission_denied", "rate_limited", "not_found"} <= own


def test_every_message_of_the_server_is_documented_with_its_members() -> None:
    documented: dict[str, set[str]] = {}
    for row in section("What the server sends"):
        documented |= {name: set(words(row[1])) for name in words(row[0])}
    frames = {str(each.__struct_config__.tag): set(each.__struct_fields__) for each in answers.FRAMES}
    assert documented == frames
    assert set(answers.FRAMES) <= set(RoomConsumer.sends)
    assert all(msgspec.json.schema(frame) for frame in answers.FRAMES)


def test_every_field_of_the_models_is_documented() -> None:
    documented = set(chain.from_iterable(words(row[0]) for row in rows(PAGE)))
    for model in (Room, Membership, Attendance):
        for field in model._meta.concrete_fields:
            assert field.name == "id" or field.name in documented, f"{model.__name__}.{field.name}"


def test_every_function_has_a_twin_and_is_documented() -> None:
    text = PAGE.read_text()
    for module in (membership, moderation, presence):
        own = {
            name for name, value in vars(module).items()
            if getattr(value, "__module__", "") == module.__name__ and callable(value) and not name.startswith("_")
        }  # fmt: skip
        plain = {name for name in own if f"a{name}" in own}
        assert own == plain | {f"a{name}" for name in plain}
        for name in plain:
            assert re.search(rf"`{name}[`(]", text), name


def test_the_guide_names_the_longest_slow_mode_rightly() -> None:
    assert LONGEST_SLOW_MODE == 6 * 3600
    assert "six hours" in PAGE.read_text()
    assert "allow_anonymous = True" in GUIDE.read_text()
