"""The house's plan, kept by reading the imports: lower rooms never import higher ones."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "channels_secure"

# The table of docs/explanation/architecture.md. A new module is given its room here first.
LAYERS: dict[int, frozenset[str]] = {
    0: frozenset({"policy"}),
    1: frozenset({"background", "conf", "exceptions", "listening", "readers"}),
    2: frozenset({"database", "migrations", "models", "redaction", "signals", "stores"}),
    3: frozenset({"audit", "auth", "blocklist", "limits", "revocation"}),
    4: frozenset({"admission", "connections", "frames", "guards", "supervisor"}),
    5: frozenset({"codecs", "consumers", "groups", "members", "middleware", "receivers"}),
    6: frozenset(
        {
            "admin",
            "apps",
            "asyncapi",
            "checks",
            "client",
            "devices",
            "lifespan",
            "management",
            "metrics",
            "pytest_plugin",
            "resetting",
            "rooms",
            "testing",
            "urls",
            "views",
        }
    ),
}
LAYER_OF = {room: layer for layer, rooms in LAYERS.items() for room in rooms}

# What would let the clock, chance, the outside world or an event loop into the pure part.
IMPURE = frozenset({
    "asyncio", "concurrent", "datetime", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select",
    "socket", "subprocess", "sys", "tempfile", "threading", "time", "urllib.request", "uuid",
})  # fmt: skip

# One optional dependency, one module, or one folder of them.
ONLY_IN = {
    "rest_framework_simplejwt": "auth/jwt.py",
    "rest_framework": "auth/jwt.py",
    "jwt": "auth/jwt.py",
    "prometheus_client": "metrics.py",
    "pydantic": "consumers/pydantic_schemas.py",
    "redis": "stores/redis/",
    "channels_redis": "stores/redis.py",
    "cryptography": "codecs/",
    "websockets": "client/",
}
NAMES_THAT_SAY_NOTHING = frozenset({"utils", "util", "helpers", "core", "common", "misc", "base_utils", "tools"})

MODULE_LINES, FUNCTION_LINES = 250, 40


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "migrations" not in path.parts)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


MODULES = python_files(PACKAGE)
ALL_CODE = [*MODULES, *python_files(ROOT / "example_project")]
each_module = pytest.mark.parametrize("path", MODULES, ids=name_of)
each_file = pytest.mark.parametrize("path", ALL_CODE, ids=name_of)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def walk_at_run_time(node: ast.AST) -> Iterator[ast.AST]:
    """Yield every node that can run: inside functions too, but not what only a type checker reads."""
    yield node
    children = node.orelse if isinstance(node, ast.If) and is_type_checking(node) else ast.iter_child_nodes(node)
    for child in children:
        yield from walk_at_run_time(child)


def imports_in(source: str, package: str) -> Iterator[str]:
    """Yield the full dotted names that `source`, a module of `package`, imports; `from a import b` yields `a.b`."""
    for node in walk_at_run_time(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            start = ".".join([*parents, *([node.module] if node.module else [])])
            yield from (f"{start}.{alias.name}" for alias in node.names)


def imports_of(path: Path) -> list[str]:
    return list(imports_in(path.read_text(), ".".join(path.relative_to(ROOT).parent.parts)))


def room_of(path: Path) -> str | None:
    """Return the first name below the package; None for the package's own `__init__`."""
    first = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    return None if first == "__init__" else first


def upward_imports(imported: list[str], layer: int) -> list[str]:
    rooms = [(name, name.split(".")[1]) for name in imported if name.startswith("channels_secure.")]
    return [name for name, room in rooms if LAYER_OF.get(room, 0) > layer]


def impure_imports(imported: list[str]) -> list[str]:
    allowed = (sys.stdlib_module_names - IMPURE) | {"msgspec", "channels_secure"}
    return [
        name
        for name in imported
        if name.split(".")[0] not in allowed
        or any(name == banned or name.startswith(f"{banned}.") for banned in IMPURE)
    ]


@each_module
def test_a_module_has_a_room_in_the_plan(path: Path) -> None:
    assert room_of(path) in {None, *LAYER_OF}, "give the module its layer in LAYERS and in the architecture page"


@each_module
def test_a_lower_layer_does_not_import_a_higher_one(path: Path) -> None:
    room = room_of(path)
    # The package's own `__init__` is imported by all, so it stands below all.
    assert upward_imports(imports_of(path), -1 if room is None else LAYER_OF.get(room, 0)) == []


@pytest.mark.parametrize("path", python_files(PACKAGE / "policy"), ids=name_of)
def test_policy_is_pure(path: Path) -> None:
    assert impure_imports(imports_of(path)) == []


@each_module
def test_an_optional_dependency_has_one_module(path: Path) -> None:
    place = path.relative_to(PACKAGE).as_posix()
    strangers = [name for name in imports_of(path) if not place.startswith(ONLY_IN.get(name.split(".")[0], place))]
    assert strangers == []


@each_file
def test_a_module_is_short(path: Path) -> None:
    assert path.read_text().count("\n") <= MODULE_LINES


@each_file
def test_functions_are_short(path: Path) -> None:
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    too_long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES]
    assert too_long == []


@each_file
def test_a_name_says_something(path: Path) -> None:
    names = {path.stem, *path.relative_to(ROOT).parent.parts}
    assert not names & NAMES_THAT_SAY_NOTHING


def test_the_reader_sees_imports_inside_functions_and_relative_ones() -> None:
    source = "def f():\n    from . import guards\n    from ..consumers import loop\nimport time as t\n"
    found = list(imports_in(source, "channels_secure.policy"))
    assert found == ["channels_secure.policy.guards", "channels_secure.consumers.loop", "time"]


def test_the_reader_passes_over_what_only_a_type_checker_reads() -> None:
    source = "if TYPE_CHECKING:\n    import django\nelse:\n    import json\n"
    assert list(imports_in(source, "channels_secure.policy")) == ["json"]


def test_an_upward_import_is_found() -> None:
    imported = ["channels_secure.policy.rates.Rate", "channels_secure.guards", "django.conf.settings"]
    assert upward_imports(imported, 1) == ["channels_secure.guards"]


def test_an_impure_import_is_found() -> None:
    imported = [
        "json",
        "msgspec.json",
        "time.monotonic",
        "django.conf",
        "urllib.parse.urlsplit",
        "urllib.request.urlopen",
    ]
    assert impure_imports(imported) == ["time.monotonic", "django.conf", "urllib.request.urlopen"]
