"""The engines tensorflow and jax: KerasHub's backbones under heads of our own, in float32.

backend     which of the two this process runs, and what differs between them
families    the kinds of models: how a config becomes a backbone that computes what transformers computes
hub_folder  the folder: config and weights, read and written
network     backbone and head as a function of named weights
methods     which of these weights are trained
batch       a micro-batch as pieces of a few fixed shapes, so that little is compiled
model       the Model that the loop talks to
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.errors import InputError
from luthier.heads import Head

if TYPE_CHECKING:
    from luthier.engines.engine import Engine, Model, TrainingSetup


class KerasEngine:
    """See luthier.engines.engine.Engine. Nothing heavy is imported before a model is loaded.

    Args:
        name: of the toolchain under Keras: ``tensorflow`` or ``jax``.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def methods(self) -> Mapping[str, Any]:
        """See Engine.methods.

        Raises:
            InputError: a package that this engine needs is not installed.
        """
        self._check_installed()
        from luthier.engines.keras.methods import METHODS

        return {name: METHODS.get(name) for name in METHODS}

    def load(
        self,
        folder: Path,
        head: Head,
        *,
        device: str = "auto",
        precision: str = "auto",
        setup: TrainingSetup | None = None,
    ) -> Model:
        """See Engine.load.

        Raises:
            InputError: a package is missing, this process runs the other toolchain, or the folder holds nothing fitting.
        """
        self._check_installed()
        from luthier.engines.keras.backend import open_backend

        backend = open_backend(self.name, device=device, precision=precision)
        from luthier.engines.keras.model import KerasModel

        return KerasModel.load(Path(folder), head, backend=backend, setup=setup)

    @property
    def missing(self) -> list[str]:
        """The packages that it needs and that are not installed."""
        return [name for name in (self.name, "keras", "keras-hub") if find_spec(name.replace("-", "_")) is None]

    def _check_installed(self) -> None:
        if self.missing:
            raise InputError(
                f'the engine "{self.name}" needs {" and ".join(self.missing)}, not installed here',
                where="engine",
                fix=f'pip install "luthier[{self.name}]"',
            )


TENSORFLOW: Engine = KerasEngine("tensorflow")
JAX: Engine = KerasEngine("jax")
