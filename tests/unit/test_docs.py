"""What the docs state as fact is what the code says."""

import re
from pathlib import Path

import pytest

from luthier.config import GenerationConfig
from luthier.engines.torch.methods import METHODS
from luthier.engines.torch.support import rows
from luthier.tasks import TASKS

ROOT = Path(__file__).parents[2]
PAGES = sorted([*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "README.zh.md", ROOT / "ARCHITECTURE.md"])


def table(page: str, first: str) -> list[list[str]]:
    """Return the lines of the table whose first column is called ``first``."""
    lines = (ROOT / "docs" / page).read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(f"| {first} |"))
    found = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_table_of_methods_is_the_one_that_is_tested():
    assert table("methods.md", "family") == [[family, head, ", ".join(methods)] for family, head, methods in rows()]


def test_every_method_has_a_line_with_its_learning_rate():
    found = {line[0].strip("`"): float(line[-1]) for line in table("methods.md", "method")}
    assert found == {name: METHODS.get(name).learning_rate for name in METHODS}


def test_every_generation_option_has_a_line():
    named = {name for line in table("generation.md", "option") for name in re.findall(r"`(\w+)`", line[0])}
    assert named == set(GenerationConfig.model_fields)


def test_the_readme_names_every_task_and_example():
    for page in ("README.md", "README.zh.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        assert all(f"`{name}`" in text for name in TASKS)
        assert all(path.name in text for path in (ROOT / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target
