"""Which toolchain runs under Keras in this process, and the few things that differ between the two.

Keras reads ``KERAS_BACKEND`` once, when it is imported: a process has one of them for good.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from luthier.errors import InputError, did_you_mean

_DEVICES = ("auto", "cpu", "cuda")


class Backend(Protocol):
    """What the engine asks of a toolchain."""

    name: str
    device: str
    compile_tokens: int
    """How many tokens are trained on in the time that it takes to compile for one more length: on a CPU, about."""

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function compiled anew for each combination of shapes."""

    def with_gradient(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that gives (value, its gradient by the list that is the first argument)."""

    def tensor(self, values: Any) -> Any:
        """Move an array to the device."""


def open_backend(name: str, *, device: str, precision: str) -> Backend:
    """Import Keras on the toolchain ``name``.

    Raises:
        InputError: this process runs Keras on the other one, or the device or number format is not to be had.
    """
    if device not in _DEVICES:
        raise InputError(f'no device "{device}" for the engine "{name}"', where="device", fix=did_you_mean(device, _DEVICES))
    if precision not in ("auto", "float32"):
        raise InputError(f'the engine "{name}" computes in float32 only', where="train.precision", fix="Leave it at auto.")
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = name
        _limit_threads(name)
    with _without_start_messages():
        import keras
        import keras_hub  # noqa: F401  brings in TensorFlow under either name, for its tokenizers
    running = keras.backend.backend()
    if running != name:
        raise InputError(
            f'this process runs Keras on {running} already, and Keras takes one back end a process: "{name}" needs its own',
            where="engine",
        )
    return _TensorFlow(device) if name == "tensorflow" else _Jax(device)


def _limit_threads(name: str) -> None:
    """Let the usual variable hold for TensorFlow's own pool of threads too."""
    threads = os.environ.get("OMP_NUM_THREADS")
    if name == "tensorflow" and threads:
        os.environ.setdefault("TF_NUM_INTRAOP_THREADS", threads)


@contextmanager
def _without_start_messages() -> Iterator[None]:
    """Keep from stderr what TensorFlow's libraries write while they are loaded, before any setting of theirs counts."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras_hub" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _accelerated(device: str, present: Sequence[Any], name: str) -> str:
    """Return ``cuda`` or ``cpu``."""
    if device == "cuda" and not present:
        raise InputError(
            f'"cuda" was asked for, but this machine has none that {name} can use', where="device", fix="Here: cpu."
        )
    return "cuda" if present and device != "cpu" else "cpu"


class _TensorFlow:
    name = "tensorflow"
    compile_tokens = 4000

    def __init__(self, device: str) -> None:
        import tensorflow

        self._tf: Any = tensorflow
        tensorflow.get_logger().setLevel("ERROR")  # it warns of new shapes, which are counted and shown here
        self.device = _accelerated(device, tensorflow.config.list_physical_devices("GPU"), self.name)
        self._place = "/GPU:0" if self.device == "cuda" else "/CPU:0"

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # On a CPU, XLA's kernels gain little over TensorFlow's own and take ten times as long to make.
        graph = self._tf.function(function, autograph=False, jit_compile=self.device == "cuda")

        def placed(*arguments: Any) -> Any:
            with self._tf.device(self._place):
                return graph(*arguments)

        return placed

    def with_gradient(self, function: Callable[..., Any]) -> Callable[..., Any]:
        tf = self._tf

        def differentiated(trained: Sequence[Any], *others: Any) -> tuple[Any, list[Any]]:
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(trained)
                value = function(trained, *others)
            found = tape.gradient(value, trained, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            return value, [tf.convert_to_tensor(gradient) for gradient in found]

        return differentiated

    def tensor(self, values: Any) -> Any:
        with self._tf.device(self._place):
            return self._tf.convert_to_tensor(values)


class _Jax:
    name = "jax"
    compile_tokens = 16000

    def __init__(self, device: str) -> None:
        import jax

        self._jax: Any = jax
        accelerators = [found for found in jax.devices() if found.platform in ("gpu", "cuda")]
        self.device = _accelerated(device, accelerators, self.name)
        self._place = accelerators[0] if self.device == "cuda" else jax.devices("cpu")[0]

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self._jax.jit(function)  # type: ignore[no-any-return]

    def with_gradient(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return self._jax.value_and_grad(function)  # type: ignore[no-any-return]

    def tensor(self, values: Any) -> Any:
        return self._jax.device_put(np.asarray(values), self._place)
