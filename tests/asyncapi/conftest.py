"""The official schema of AsyncAPI 3.0, and TypeScript's compiler; both come out of node_modules."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.node import ASYNCAPI_SCHEMAS, fill_node_modules, run_tsc


@pytest.fixture(scope="session")
def official() -> Draft7Validator:
    """Judges whole documents."""
    fill_node_modules()
    schema = json.loads((ASYNCAPI_SCHEMAS / "3.0.0-without-$id.json").read_text())
    return Draft7Validator(schema)


Compile = Callable[..., list[str]]


@pytest.fixture
def compile_typescript(tmp_path: Path) -> Compile:
    """Check `wire.ts` and a program that uses it, as strictly as the compiler can; return what it complains of."""

    def compile_(types: str, program: str = "export {};") -> list[str]:
        (tmp_path / "wire.ts").write_text(types, encoding="utf-8")
        (tmp_path / "program.ts").write_text(program, encoding="utf-8")
        strict = ("--strict", "--exactOptionalPropertyTypes", "--noUncheckedIndexedAccess", "--noEmit", "--types", "")
        done = run_tsc(*strict, "--target", "es2022", "--module", "es2022", "program.ts", "wire.ts", cwd=tmp_path)
        assert done.returncode == 0 or done.stdout, "the compiler ended without a word"
        return done.stdout.splitlines()

    return compile_


def errors(validator: Draft7Validator, document: dict[str, Any]) -> list[str]:
    return [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(document)]


def payload_validator(document: dict[str, Any], key: str) -> Draft7Validator:
    """Judges messages by the payload schema that a document has for them."""
    reference = f"#/components/messages/{key}/payload"
    return Draft7Validator({"$ref": reference, "components": document["components"]})
