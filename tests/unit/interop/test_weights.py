"""Pickles that want to run code are refused before anything in them is called."""

import argparse
import functools
import io
import marshal
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.serialization import get_safe_globals, safe_globals

from luthier.errors import InputError, SecurityError
from luthier.interop.weights import read_pickle


class Calls:
    """Pickles as a call of ``function`` with ``arguments``."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


class Builds:
    """Pickles as a call, and sets a state afterwards."""

    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...], state: Any) -> None:
        self.parts = (function, arguments, state)

    def __reduce__(self):
        return self.parts


def zipped(value: Any, path: Path) -> None:
    torch.save(value, path)


def legacy(value: Any, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def plain(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=2))


def newest(value: Any, path: Path) -> None:
    path.write_bytes(pickle.dumps(value, protocol=5))


def tarred(value: Any, path: Path) -> None:
    """Torch's form before 2016."""
    with tarfile.open(path, "w") as archive:
        for name, content in {"sys_info": {}, "storages": 0, "tensors": 0, "pickle": value}.items():
            data = pickle.dumps(content, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


def by_hand(*operations: bytes) -> Callable[[Any, Path], None]:
    """A zip checkpoint whose pickle is written out."""

    def write(_: Any, path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", b"".join(operations))
            archive.writestr("archive/version", "3\n")
            archive.writestr("archive/byteorder", "little")

    return write


def program(marker: Path) -> str:
    return f"open({str(marker)!r}, 'w').close()"


def payloads(marker: Path) -> dict[str, Any]:
    code = program(marker)
    shell = f"touch '{marker}'"
    array = np.empty(1, dtype=object)
    array[0] = Calls(eval, code)
    return {
        "os.system": Calls(os.system, shell),
        "eval": Calls(eval, code),
        "exec": Calls(exec, code),
        "subprocess": Calls(subprocess.check_output, ["touch", str(marker)]),
        "inside a Namespace": argparse.Namespace(arch="transformer", note=Calls(os.system, shell)),
        "inside an OrderedDict": {"model": OrderedDict(weight=torch.ones(2), other=Calls(eval, code))},
        "as a dictionary's key": {"cfg": {Calls(os.system, shell): 1}},
        "a chain of getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "functools.partial": Calls(functools.partial(os.system, shell)),
        "a code object": Calls(eval, Calls(marshal.loads, marshal.dumps(compile(code, "x", "exec")))),
        "torch.hub.load": Calls(torch.hub.load, str(marker.parent), "run"),
        "torch's own rebuilding with another function": Calls(
            torch._tensor._rebuild_from_type_v2, os.system, torch.Tensor, (shell,), {}
        ),
        "a parameter whose data is a call": Calls(torch._utils._rebuild_parameter, Calls(eval, code), True, OrderedDict()),
        "a numpy array of objects": array,
        "a state set on a class": Builds(argparse.Namespace, (), Calls(eval, code)),
        "pickle inside a pickle": Calls(pickle.loads, pickle.dumps(Calls(eval, code))),
        "torch.load inside": Calls(torch.load, str(marker.parent / "inner.pt")),
        "shutil": Calls(shutil.copyfile, __file__, str(marker)),
        "an import": Calls(__import__, "antigravity"),
    }


NAMES = sorted(payloads(Path("/nowhere/marker")))


@pytest.mark.parametrize("write", [zipped, legacy, plain, newest, tarred])
@pytest.mark.parametrize("name", NAMES)
def test_a_payload_is_refused_and_does_not_run(name: str, write: Callable[[Any, Path], None], tmp_path: Path):
    marker, path = tmp_path / "marker", tmp_path / "checkpoint.pt"
    pickled = payloads(marker)[name]
    write(pickled, path)
    with pytest.raises(SecurityError) as caught:
        read_pickle(path)
    assert caught.value.exit_code == 3
    assert str(path) in str(caught.value)
    assert not marker.exists()


@pytest.mark.parametrize("write", [plain, newest])
@pytest.mark.parametrize(
    "name", ["os.system", "eval", "exec", "inside a Namespace", "a code object", "a numpy array of objects", "shutil"]
)
def test_the_payloads_of_these_tests_do_run_where_nothing_stops_them(name: str, write, tmp_path: Path):
    marker, path = tmp_path / "marker", tmp_path / "checkpoint.pt"
    write(payloads(marker)[name], path)
    with path.open("rb") as stream:
        pickle.load(stream)  # noqa: S301
    assert marker.exists()


@pytest.mark.parametrize(
    "operations",
    [
        (b"\x80\x02cposix\nsystem\n(X\x04\x00\x00\x00true", b"tR."),
        (b"\x80\x02(X\x04\x00\x00\x00true", b"iposix\nsystem\n."),  # INST
        (b"\x80\x02(cposix\nsystem\nX\x04\x00\x00\x00true", b"o."),  # OBJ
        (b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93\x8c\x011\x85R.",),  # STACK_GLOBAL
        (b"\x80\x02\x82\x01.",),  # EXT1
        (
            b"\x80\x02cbuiltins\ngetattr\ncbuiltins\n__import__\nX\x02\x00\x00\x00os\x85R",
            b"X\x06\x00\x00\x00system\x86RX\x04\x00\x00\x00true\x85R.",
        ),
        (b"\x80\x02cargparse\nNamespace\n)\x81}X\x09\x00\x00\x00__class__cposix\nsystem\nsb.",),  # BUILD of a class
    ],
)
def test_operations_of_a_pickle_that_reach_for_a_function_are_refused(operations: tuple[bytes, ...], tmp_path: Path):
    path = tmp_path / "checkpoint.pt"
    by_hand(*operations)(None, path)
    with pytest.raises(SecurityError):
        read_pickle(path)


def test_what_was_found_is_named(tmp_path: Path):
    zipped({"args": Calls(os.system, "true")}, tmp_path / "a.pt")
    with pytest.raises(SecurityError, match=r"it names (posix|nt)\.system\)"):
        read_pickle(tmp_path / "a.pt")


def test_a_torchscript_program_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
        archive.writestr("archive/version", "3\n")
    with pytest.raises(SecurityError):
        read_pickle(tmp_path / "a.pt")


def test_what_another_library_allowed_is_not_allowed_here_and_stays_as_it_was(tmp_path: Path):
    zipped({"set": types.SimpleNamespace(a=1)}, tmp_path / "a.pt")
    with safe_globals([types.SimpleNamespace]):
        before = get_safe_globals()
        with pytest.raises(SecurityError, match="SimpleNamespace"):
            read_pickle(tmp_path / "a.pt")
        assert set(get_safe_globals()) == set(before)
        assert types.SimpleNamespace in before


@pytest.mark.parametrize("variable", ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_no_variable_of_the_environment_opens_the_door(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(variable, "1")
    marker, path = tmp_path / "marker", tmp_path / "a.pt"
    zipped(payloads(marker)["eval"], path)
    with pytest.raises(SecurityError):
        read_pickle(path)
    assert not marker.exists()


@pytest.mark.parametrize("write", [zipped, legacy])
def test_weights_and_settings_are_read_as_they_were_written(write: Callable[[Any, Path], None], tmp_path: Path):
    weights = OrderedDict(a=torch.arange(6.0).reshape(2, 3), b=torch.ones(2, dtype=torch.float16))
    state = {
        "args": argparse.Namespace(arch="transformer", lr=[0.1], nothing=None),
        "model": weights,
        "cfg": {"model": {"x": 1}},
    }
    write(state, tmp_path / "a.pt")
    read = read_pickle(tmp_path / "a.pt")
    assert read["args"] == state["args"]
    assert read["cfg"] == {"model": {"x": 1}}
    assert all(torch.equal(read["model"][name], weights[name]) for name in weights)


def test_damage_and_absence_are_the_users_matter_and_not_an_attack(tmp_path: Path):
    zipped({"a": torch.arange(1000.0)}, tmp_path / "whole.pt")
    whole = (tmp_path / "whole.pt").read_bytes()
    for name, content in {"cut": whole[: len(whole) // 2], "empty": b"", "text": b"no checkpoint\n"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises((InputError, SecurityError), match=name):
            read_pickle(tmp_path / name)
    for name in ("cut", "empty"):
        with pytest.raises(InputError):
            read_pickle(tmp_path / name)
    with pytest.raises(InputError, match="no such file"):
        read_pickle(tmp_path / "absent")


def test_the_module_is_the_only_one_that_unpickles():
    source = Path(sys.modules["luthier"].__file__ or "").parent
    found = [
        path.relative_to(source).as_posix()
        for path in source.rglob("*.py")
        if any(
            word in path.read_text(encoding="utf-8")
            for word in ("torch.load(", "pickle.load", "Unpickler(", "allow_pickle=True")
        )
    ]
    assert found == ["interop/weights.py"]
