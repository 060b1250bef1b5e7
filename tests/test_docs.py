"""The pages that users read: their links lead somewhere, the fields and configs that they name exist."""

import re

import pytest
from conftest import ROOT

from jaxhep.alpha_g import config as alpha_g_config
from jaxhep.ams_ecal import config as ams_ecal_config
from jaxhep.config import find_config
from jaxhep.fields import COMMON, DATA

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").glob("*.md")),
]
FIELDS = COMMON | DATA | ams_ecal_config.FIELDS | alpha_g_config.FIELDS
EXAMPLES = {"layer_sums", "rings_config"}  # configs that a page tells how to write
MOST_WORDS = 1_200


def anchors(text: str) -> set[str]:
    """The headings of a page as links name them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def dead_links(page, text: str) -> list[str]:
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        file, _, anchor = link.partition("#")
        if "://" in file:
            continue
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            dead.append(link)
    return dead


def unknown_fields(text: str) -> list[str]:
    """Fields set as --config.NAME or named as `config.NAME` that no config has."""
    named = re.findall(r"(?:--|`)config\.([a-z_]+(?:\.[a-z_]+)*)", text)
    return [name for name in named if name not in FIELDS and name != "json" and not name.startswith("model.settings.")]


def configs_of(text: str) -> list[str]:
    """What the text gives to --config."""
    return re.findall(r"--config[ =]([a-z_0-9./]+(?::[a-z]+)?)", text)


def missing_modules(text: str) -> list[str]:
    """Modules that the text runs as `python -m NAME` and that are not there."""
    named = re.findall(r"python -m ((?:jaxhep|benchmarks)(?:\.[a-z_0-9]+)+)", text)
    return [name for name in named if not (ROOT / f"{name.replace('.', '/')}.py").exists()]


def names_of(page) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=names_of)
def test_links_lead_somewhere(page):
    assert dead_links(page, page.read_text()) == []


@pytest.mark.parametrize("page", PAGES, ids=names_of)
def test_fields_configs_and_commands_exist(page):
    text = page.read_text()
    assert unknown_fields(text) == []
    assert missing_modules(text) == []
    for name in configs_of(text):
        stem = name.partition(":")[0].removeprefix("configs/").removesuffix(".py")
        if stem in EXAMPLES or name.endswith(".json") or name.startswith("runs/"):
            continue
        file, variant = find_config(str(ROOT / name) if name.startswith("configs/") else name)
        assert file.parent == ROOT / "configs"
        assert variant in ("", "smoke", "paper")


def test_the_readme_is_short_and_says_what_a_machine_reads():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) < MOST_WORDS
    for marker in ("# install and run", "# install and test"):
        assert len(re.findall(rf"^pip install .*{marker}$", text, re.MULTILINE)) == 1


def test_what_is_wrong_is_found():
    page = ROOT / "docs" / "commands.md"
    assert dead_links(page, "[a](speed.md#precision) [b](sped.md) [c](speed.md#slow) [d](https://x.org/y)") == [
        "sped.md",
        "speed.md#slow",
    ]
    text = "--config.train.epochs=3 --config.train.epoch=3 `config.data.skip_bad` --config.model.settings.any=1 `config.json`"
    assert unknown_fields(text) == ["train.epoch"]
    assert missing_modules("python -m benchmarks.throughput, python -m jaxhep.trian") == ["jaxhep.trian"]
    assert configs_of("--config cvt:smoke --config.seed=1 --config configs/cnn.py") == ["cvt:smoke", "configs/cnn.py"]
