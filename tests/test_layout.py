"""The rules that keep the project readable, checked."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

VERBS = {"simulate", "prepare", "train", "evaluate"}
# What these import of the package: nothing, or what is named.
LEAVES = {
    "errors": (),
    "fields": ("jaxhep.errors",),
    "files": ("jaxhep.errors",),
    "kernels": ("jaxhep.kernels",),
    "losses": (),
    "models": ("jaxhep.kernels", "jaxhep.models"),
    "random_numbers": (),
    "records": (),
    "statistics": (),
}
SOURCES = sorted((ROOT / "jaxhep").rglob("*.py"))
ALL = [
    path for folder in ("jaxhep", "configs", "benchmarks", "tests") for path in sorted((ROOT / folder).rglob("*.py"))
]


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module or '.'}.{alias.name}" for alias in node.names} | {node.module or "."}
    return found


@pytest.mark.parametrize("path", ALL, ids=lambda path: str(path.relative_to(ROOT)))
def test_one_page_one_purpose(path):
    assert len(path.read_text().splitlines()) <= 300
    assert path.stem not in {"utils", "util", "helpers", "misc"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nouns_never_import_verbs_and_nothing_imports_tests(path):
    imported = imports_of(path)
    assert not any(name.split(".")[0] in {"tests", "benchmarks", "configs"} for name in imported)
    # The package itself hands the verbs on; nothing of that is imported before it is used.
    if path.parent.name != "jaxhep" or path.stem not in VERBS | {"__init__"}:
        verbs = {f"jaxhep.{verb}" for verb in VERBS}
        assert not {name for name in imported if any(name == verb or name.startswith(f"{verb}.") for verb in verbs)}


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_import_nothing_above_them(leaf):
    place = ROOT / "jaxhep" / leaf
    for path in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        ours = {name for name in imports_of(path) if name.split(".")[0] == "jaxhep" and name != "jaxhep"}
        assert all(name.startswith(LEAVES[leaf]) for name in ours), (path, ours)


def rooms() -> dict[str, set[str]]:
    """Every module of the package, and those that it imports when it is loaded or later."""
    names = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in SOURCES}
    found = {}
    for path in SOURCES:
        own = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if own != "jaxhep":  # hands on names, when they are used
            found[own] = {name for name in imports_of(path) if name in names and name not in (own, "jaxhep")}
            # A package that hands on its parts is its parts: they may name one another by it.
            found[own] = {name for name in found[own] if not own.startswith(f"{name}.")}
    return found


def test_the_house_has_no_circle_of_imports():
    order = graphlib.TopologicalSorter(rooms())
    try:
        order.prepare()
    except graphlib.CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_the_kernels_choose_by_platform_and_nobody_asks_for_the_process_s_own():
    for path in SOURCES:
        assert "default_backend" not in path.read_text(), path


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda path: path.stem)
def test_configs_are_documents(path):
    allowed = {"ml_collections", "jaxhep.ams_ecal.config", "jaxhep.alpha_g.config"}
    assert {
        node.module for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)
    } <= allowed
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert f"python -m jaxhep.train --config configs/{path.name}" in text
    assert "Measured" in text


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_functions_are_annotated(path):
    tree, missing = ast.parse(path.read_text()), []
    holders = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    for function in (node for holder in holders for node in holder.body if isinstance(node, ast.FunctionDef)):
        if function.name.startswith("_"):
            continue
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        bare = [argument.arg for argument in arguments if argument.annotation is None]
        missing += [f"{function.name}({', '.join(name for name in bare if name not in ('self', 'cls'))})"] * any(
            name not in ("self", "cls") for name in bare
        )
        missing += [f"{function.name} ->"] * (function.returns is None)
    assert not missing


def test_steps_and_models_run_where_grain_uproot_and_orbax_are_missing():
    code = """
import sys
for name in ("grain", "uproot", "awkward", "orbax", "orbax.checkpoint", "ml_collections", "matplotlib", "scipy", "tensorboardX"):
    sys.modules[name] = None
import jaxhep.models, jaxhep.steps, jaxhep.losses
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_preparing_and_scoring_do_not_start_jax():
    code = "import sys, jaxhep.prepare, jaxhep.statistics, jaxhep.multiclass, jaxhep.evaluate; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_repository_speaks_of_the_project_alone():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    outside = re.compile(r"/(work|farm|root|opt)/|allow_pickle=True|\bimport pickle\b")
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".sh", ".cff"} and path.name != "test_layout.py" and path.exists():
            assert not outside.search(path.read_text()), name
