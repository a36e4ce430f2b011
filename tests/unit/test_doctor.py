"""What `luthier doctor` sees, on machines made up for it."""

import subprocess
import sys
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from luthier import doctor
from luthier.doctor import Finding, examine
from luthier.engines import ENGINES


def found() -> dict[str, Finding]:
    return {finding.name: finding for finding in examine()}


def test_this_machine_has_all_that_the_tests_stand_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path))
    findings = found()
    assert not [finding for finding in findings.values() if finding.state == "missing"]
    assert {"python", "processor", "cache", "torch", "transformers", "tensorboard", "datasets", "samples"} <= set(findings)
    assert {f"engine {name}" for name in ENGINES} <= set(findings)
    assert str(tmp_path) in findings["cache"].detail
    assert "minilm" not in findings["samples"].detail
    assert "minilm" in findings["samples"].fix


def test_the_tools_of_developers_are_not_asked_for():
    assert not {"pytest", "ruff", "mypy", "hypothesis"} & set(found())


def test_a_package_that_is_needed_is_missing_and_an_optional_one_is_a_note(monkeypatch: pytest.MonkeyPatch):
    theirs = doctor.version

    def version(name: str) -> str:
        if name in ("seqeval", "datasets"):
            raise PackageNotFoundError(name)
        return "4.9.9" if name == "transformers" else theirs(name)

    monkeypatch.setattr(doctor, "version", version)
    findings = found()
    assert findings["seqeval"].state == "missing"
    assert findings["seqeval"].fix.startswith('pip install "seqeval')
    assert findings["datasets"] == Finding("datasets", "note", "not installed, optional", 'pip install "luthier[hub]"')
    assert findings["transformers"].state == "missing"
    assert findings["transformers"].detail.startswith("4.9.9; needed is transformers")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("flags : fpu avx512f avx512_bf16 amx_bf16", "bf16 by amx_bf16 and avx512_bf16"),
        ("Features : fp asimd bf16 i8mm", "bf16 by bf16"),
        ("flags : fpu sse2 avx2", "no bf16 products: training runs in float32"),
    ],
)
def test_bf16_is_read_from_the_kernels_list(flags: str, said: str, tmp_path: Path):
    (tmp_path / "cpuinfo").write_text(flags + "\n", encoding="utf-8")
    assert doctor._instructions(tmp_path / "cpuinfo") == said


def test_without_a_kernels_list_bf16_is_unknown(tmp_path: Path):
    assert doctor._instructions(tmp_path / "none") == "bf16 unknown"


def test_a_full_disk_is_noted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: doctor.shutil._ntuple_diskusage(10**10, 10**10, 10**8))
    cache = found()["cache"]
    assert cache.state == "note"
    assert "LUTHIER_CACHE" in cache.fix


def test_an_engine_that_cannot_be_imported_is_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(ENGINES._entries, "lyre", "luthier.engines.no_such_module:ENGINE")
    assert found()["engine lyre"].state == "missing"


def test_no_package_but_torch_is_imported():
    code = "import sys; from luthier.doctor import examine; examine(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"transformers", "datasets", "tensorboard", "sklearn", "pyarrow"} & set(done.stdout.split())
