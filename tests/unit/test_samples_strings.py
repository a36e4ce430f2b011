"""Singular and plural of a message of software strings stand in one split."""

import json
import zipfile
from pathlib import Path

from compiled_catalogue import compiled
from luthier.samples.strings import software_strings

SPLITS = ("train", "validation", "test")
HEADER = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'


def split_of(folder: Path, catalogue: str, compiled_one: bytes) -> dict[str, str]:
    """Return the split of each source text, by text."""
    files = (("django.whl", "a/locale/fr/LC_MESSAGES/a.po", (HEADER + catalogue).encode()),
             ("pack.whl", "b/locale/fr/LC_MESSAGES/b.mo", compiled_one))  # fmt: skip
    for name, member, content in files:
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr(member, content)
    software_strings("fr")(folder / "django.whl", folder, folder / "pack.whl")
    lines = [(name, line) for name in SPLITS for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    return {json.loads(line)["source"]: name for name, line in lines}


def plural(one: str, many: str) -> str:
    return f'msgid "{one}"\nmsgid_plural "{many}"\nmsgstr[0] "un {one}"\nmsgstr[1] "des {many}"\n\n'


def test_singular_and_plural_stand_in_one_split(tmp_path: Path):
    catalogue = "".join(plural(f"item{n}", f"item{n}s") for n in range(200))
    packed = compiled({f"folder{n}\0folder{n}s": f"un dossier{n}\0des dossiers{n}" for n in range(200)})
    found = split_of(tmp_path, catalogue, packed)
    assert len(found) == 800
    assert set(found.values()) == set(SPLITS)
    assert all(found[f"{word}{n}"] == found[f"{word}{n}s"] for word in ("item", "folder") for n in range(200))


def test_what_two_messages_share_brings_them_into_one_split(tmp_path: Path):
    catalogue = "".join(plural(f"entry{n}", f"Several {n}x") for n in range(100))
    packed = compiled({f"alone{n}\0several {n}X": f"seul{n}\0plusieurs {n}x" for n in range(100)})
    found = split_of(tmp_path, catalogue, packed)
    assert len(found) == 400
    assert all(found[f"entry{n}"] == found[f"Several {n}x"] == found[f"several {n}X"] == found[f"alone{n}"] for n in range(100))
