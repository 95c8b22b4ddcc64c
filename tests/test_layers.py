"""Imports point one way: a module imports only from layers below its own, and each exception has its reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Final, NamedTuple

import banhammer

ROOT: Final = Path(banhammer.__file__).parent
LAYERS: Final[tuple[frozenset[str], ...]] = tuple(
    frozenset(layer.split())
    for layer in (
        "errors forks toml_lines",
        "durations urls identity document",
        "checks lists",
        "model",
        "core outbox hookspecs actions actions.line actions.settings",
        "decision plugins actions.blocked actions.record actions.endpoint actions.stream",
        "kinds actions.report worker.terms worker.agenda worker.running worker.saying",
        "actions.builtin escalations worker.crew worker.courier",
        "worker.worker",
        "worker",
        "repertoire",
        "backends",
        "backends.leaving backends.shortcut backends.names backends.packing backends.breaker backends.keeper"
        " backends.gather backends.threaded backends.details",
        "backends.memory backends.denials",
        "backends.fallback",
        "backends.shared",
        "backends.redis.tls backends.redis.entries",
        "backends.redis.settings backends.redis.wire",
        "backends.redis.scripts",
        "backends.redis.link",
        "backends.redis.server",
        "backends.redis.topology",
        "backends.redis.drivers backends.redis.call backends.redis.streams",
        "backends.redis.asking backends.redis.readings",
        "backends.redis.talk backends.redis.order backends.redis.dead_letters",
        "backends.redis.outbox",
        "backends.redis.verbs backends.redis.listing backends.redis.calls",
        "backends.redis.backend",
        "backends.redis",
        "backends.memcached.settings backends.memcached.wire",
        "backends.memcached.link backends.memcached.value",
        "backends.memcached.server",
        "backends.memcached.swap backends.memcached.turn",
        "backends.memcached.edit",
        "backends.memcached.store",
        "backends.memcached.backend",
        "backends.memcached",
        "backends.builtin",
        "rulebook",
        "batch",
        "shell",
        "hammer",
        "banhammer",
        "routes classic testing.clock testing.switch",
        "testing testing.conformance.calls testing.conformance.promises testing.conformance.rules"
        " testing.conformance.ideal",
        "testing.conformance.stage",
        "testing.conformance.crew testing.conformance.scenes testing.conformance.walk",
        "testing.conformance.banning testing.conformance.deciding testing.conformance.keeping"
        " testing.conformance.sharing testing.conformance.delivering",
        "testing.conformance",
        "schema words starter",
        "config",
        "advice explain replay",
        "desk",
        "operators inventory",
        "check post",
        "cli",
        "__main__",
    )
)
UPWARD: Final = {
    ("backends", "backends.builtin"): "adopt opens the store that an application's client reaches",
    ("shell", "config"): "from_config reads a file, and only then is pydantic needed",
    ("testing.switch", "testing.switch"): "what it puts into a hammer's verbs runs among their globals",
}
"""Imports that do not point down; each must stand inside a function."""
OPTIONAL: Final = {
    "pymemcache": {"backends.memcached.settings", "backends.memcached.store"},
    "pydantic": {"config", "schema"},
    "typer": {"cli", "operators", "post", "replay.command"},
    "rich": {"operators", "replay.command", "replay.live", "replay.terminal"},
    "pytest": {"testing.conformance", "testing.conformance.banning", "testing.conformance.deciding"},
}
"""What is not installed by default, and the modules that may import it."""


class Import(NamedTuple):
    module: str
    imports: str
    inside: bool  # In a function, so not run when the module is loaded.


def name_of(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "banhammer"


FILES: Final = {name_of(file): file for file in sorted(ROOT.rglob("*.py"))}


def found_in(module: str) -> Iterator[Import]:
    """Yield what a module imports: ours by the name below `banhammer`, others by the name of their package."""
    tree = ast.parse(FILES[module].read_text("utf-8"))
    outside = {
        id(node)
        for statement in tree.body
        if not isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        for node in ast.walk(statement)
    }
    for node in ast.walk(tree):
        inside = id(node) not in outside
        if isinstance(node, ast.Import):
            yield from (Import(module, ours(alias.name), inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: line {node.lineno} imports relatively"
            package = ours(node.module or "")
            below = {alias.name: f"{package}.{alias.name}".removeprefix("banhammer.") for alias in node.names}
            modules = {inner for inner in below.values() if inner in FILES}
            if modules < set(below.values()) or not modules:
                modules.add(package)
            yield from (Import(module, name, inside) for name in sorted(modules))


def ours(name: str) -> str:
    package, _, inner = name.partition(".")
    return (inner or "banhammer") if package == "banhammer" else package


def layer(module: str) -> int:
    known = "replay" if module.startswith("replay") else module
    return next(index for index, names in enumerate(LAYERS) if known in names)


IMPORTS: Final = [each for module in FILES for each in found_in(module)]
OURS: Final = [each for each in IMPORTS if each.imports in FILES]


def test_every_module_has_its_layer_and_every_layer_its_modules() -> None:
    modules = {"replay" if module.startswith("replay") else module for module in FILES}
    assert sorted(modules) == sorted(name for names in LAYERS for name in names)


def test_a_module_imports_only_from_the_layers_below_its_own() -> None:
    upward = {
        (each.module, each.imports)
        for each in OURS
        if layer(each.imports) >= layer(each.module)
        and not (layer(each.imports) == layer(each.module) == layer("replay"))
    }
    assert sorted(upward) == sorted(UPWARD)


def test_an_import_of_a_higher_layer_stands_in_a_function() -> None:
    assert [each for each in OURS if (each.module, each.imports) in UPWARD and not each.inside] == []


def test_the_modules_of_replay_import_each_other_in_one_direction() -> None:
    inside: dict[str, set[str]] = {}
    for each in OURS:
        if each.module.startswith("replay.") and each.imports.startswith("replay."):
            inside.setdefault(each.module, set()).add(each.imports)
    assert len(list(TopologicalSorter(inside).static_order())) > len(inside)


def test_the_core_imports_nothing_of_ours_but_the_model_and_durations() -> None:
    assert {each.imports for each in OURS if each.module == "core"} == {"model", "durations"}


def test_the_core_has_no_clock_no_input_and_no_randomness() -> None:
    assert {each.imports for each in IMPORTS if each.module == "core"} <= {
        "__future__", "collections", "dataclasses", "durations", "model", "typing",
    }  # fmt: skip


def test_an_optional_package_is_imported_only_where_it_belongs() -> None:
    for package, allowed in OPTIONAL.items():
        assert {each.module for each in IMPORTS if each.imports == package} == allowed
