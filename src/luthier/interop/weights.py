"""The one place where a pickle is read: fairseq's checkpoints and the hub's ``.bin`` files.

torch's restricted unpickler builds tensors, containers and numbers; the list here adds what fairseq's settings are kept
in. Any other name in the file stops the reading before it is called, so no code of the file ever runs.
"""

from __future__ import annotations

import argparse
import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError, SecurityError

if TYPE_CHECKING:
    from torch import Tensor

_ALLOWED = (argparse.Namespace,)
"""Beside what torch allows: tensors and their parts, OrderedDict, plain containers, text and numbers."""
_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")


def read_pickle(path: Path) -> Any:
    """Read what ``torch.save`` wrote; tensors come to the host.

    Raises:
        SecurityError: the file names anything that is not on the list. Nothing of it has run.
        InputError: there is no such file, or it is damaged.
    """
    import torch

    try:
        with path.open("rb") as stream, _only(_ALLOWED):
            return torch.load(stream, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError("there is no such file", where=str(path)) from error
    except UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except (EOFError, OSError) as error:
        raise InputError(
            f"this file cannot be read ({error or 'it is cut off'})", where=str(path), fix="Get it again."
        ) from error
    except Exception as error:
        # A hostile or damaged file can make the restricted unpickler fail in any way; none of them runs its code.
        raise _damaged(path, error) from error


@contextlib.contextmanager
def _only(allowed: tuple[type, ...]) -> Iterator[None]:
    """Let torch's restricted unpickler build these classes and, of those that libraries have added, no other one."""
    from torch.serialization import add_safe_globals, clear_safe_globals, get_safe_globals

    before = get_safe_globals()
    clear_safe_globals()
    add_safe_globals(list(allowed))
    try:
        yield
    finally:
        clear_safe_globals()
        add_safe_globals(before)


def _refused(path: Path, said: str) -> SecurityError | InputError:
    if "Ran out of input" in said or "pickle data was truncated" in said:
        return InputError("this file is cut off", where=str(path), fix="Get it again.")
    named = _GLOBAL.search(said)
    what = f"it names {named[1]}" if named else "it holds more than tensors, containers, numbers and settings"
    return SecurityError(
        f"{path}: refused, because reading it could run somebody else's code ({what}); nothing of it has run. "
        "Take a file that holds weights and plain settings alone."
    )


def _damaged(path: Path, error: Exception) -> SecurityError | InputError:
    said = str(error)
    if "weights_only" in said or "TorchScript" in said:  # the old tar form, and programs
        return SecurityError(
            f"{path}: refused, because a file of this form can run somebody else's code; nothing of it has run."
        )
    reason = said.splitlines()[0] if said else type(error).__name__
    return InputError(f"this file is damaged or is no file of torch.save ({reason})", where=str(path), fix="Get it again.")


def save_weights(weights: Mapping[str, Tensor], folder: Path) -> None:
    """Write ``model.safetensors``. Tensors that share memory are written each by itself."""
    from safetensors.torch import save_file

    save_file(
        {name: value.detach().clone().contiguous() for name, value in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
