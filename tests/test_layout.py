"""The rules that keep the project readable, checked."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

VERBS = {"simulate", "prepare", "train", "evaluate", "predict", "export"}
LEAVES = ("models", "losses.py", "metrics.py")
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
    if path.stem not in VERBS or path.parent.name != "jaxhep":
        verbs = {f"jaxhep.{verb}" for verb in VERBS}
        assert not {name for name in imported if any(name == verb or name.startswith(f"{verb}.") for verb in verbs)}
    relative = str(path.relative_to(ROOT / "jaxhep"))
    if relative.startswith(LEAVES):
        assert not {name for name in imported if name.startswith("jaxhep")}


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.py")), ids=lambda path: path.stem)
def test_configs_are_documents(path):
    allowed = {"ml_collections", "configs"}
    assert {name.split(".")[0] for name in imports_of(path)} <= allowed
    if path.stem not in {"__init__", "common", "ams_ecal", "alpha_g"}:
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert f"python -m jaxhep.train --config configs/{path.name}" in text
        assert "Measured" in text


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
    code = "import sys, jaxhep.prepare, jaxhep.metrics, jaxhep.evaluate; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_the_repository_speaks_of_the_project_alone():
    files = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    outside = re.compile(r"/(work|farm|root|opt)/|allow_pickle=True|\bimport pickle\b")
    for name in files:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".sh", ".cff"} and path.name != "test_layout.py" and path.exists():
            assert not outside.search(path.read_text()), name
