"""A base in 4 or 8 bits, through bitsandbytes: frozen weights are kept small, products are those of a whole network.

4 bits: NormalFloat with double quantization, after Dettmers et al., QLoRA (2023). 8 bits: one scale a row. Weights
alone are quantized, never what they are multiplied with, so that a result depends neither on what shares the
batch nor on whether it is for training, and the dequantized weights give the same results.
"""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from luthier.errors import InputError

BITS = (4, 8)


def quantization(bits: int, *, precision: str, whole: Sequence[str]) -> Any:
    """Return how transformers is to quantize while it loads.

    Args:
        bits: 4 or 8.
        precision: of the products: float32 or bfloat16.
        whole: names of linear layers that stay as they are.

    Raises:
        InputError: bitsandbytes is not installed.
    """
    bitsandbytes()
    from transformers import BitsAndBytesConfig

    if bits == 8:
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=list(whole))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if precision == "bfloat16" else torch.float32,
        llm_int8_skip_modules=list(whole),
    )


def settle(network: Any) -> None:
    """Make the products of a freshly loaded quantized network what this module promises."""
    layers = bitsandbytes().nn

    class Rows8bit(layers.Linear8bitLt):  # type: ignore[misc, name-defined]
        """Whose own product would quantize its inputs too, but for outliers of the whole batch."""

        def forward(self, inputs: Tensor) -> Tensor:
            if torch.is_autocast_enabled(inputs.device.type):
                inputs = inputs.to(torch.get_autocast_dtype(inputs.device.type))
            weight: Any = self.weight
            results: Tensor = _Product.apply(inputs, weight.data, weight.SCB, self.bias)  # type: ignore[no-untyped-call]
            return results

    for module in network.modules():
        if isinstance(module, layers.Linear8bitLt):
            module.__class__ = Rows8bit
        elif isinstance(module, layers.Linear4bit):
            # Else the first evaluation on some CPUs rounds the scales for good.
            module.support_avx512bf16_for_cpu = False


class _Product(torch.autograd.Function):
    """A linear layer that keeps its weights in 8 bits for backward too: inputs [..., I] to [..., O]."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, weight: Tensor, scales: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(weight, scales)
        whole = None if bias is None else bias.to(inputs.dtype)
        return functional.linear(inputs, _rows(weight, scales).to(inputs.dtype), whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        weight, scales = ctx.saved_tensors
        return gradients[0] @ _rows(weight, scales).to(gradients[0].dtype), None, None, None


def _rows(weight: Tensor, scales: Tensor) -> Tensor:
    """Dequantize int8 [O, I] with the largest value of each row [O]."""
    return weight * (scales.float() / 127.0)[:, None]


def bitsandbytes() -> Any:
    """Return the package; its first import is kept from writing to stderr.

    Raises:
        InputError: it is not installed, or what transformers needs beside it.
    """
    for package in ("bitsandbytes", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise InputError(
                f"this needs the package {package}, which is not installed", fix='Install it: pip install "luthier[quantized]"'
            )
    with still():
        return importlib.import_module("bitsandbytes")


def bits_of(values: Mapping[str, Any]) -> int | None:
    """Return the bits that a saved config of a quantized network names."""
    described = values.get("quantization_config")
    if not isinstance(described, Mapping):
        return None
    return 4 if described.get("load_in_4bit") else 8


@contextmanager
def still() -> Iterator[None]:
    """Keep peft and bitsandbytes from writing to stderr, and leave the global random numbers alone."""
    loggers = [logging.getLogger(name) for name in ("bitsandbytes", "peft")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # peft asks transformers by a name that is on its way out.
            warnings.filterwarnings("ignore", message=".is_gradient_checkpointing. is deprecated", category=FutureWarning)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _is_quantized(module: nn.Module) -> bool:
    return type(getattr(module, "weight", None)).__name__ in ("Params4bit", "Int8Params")


def copy_weights(network: Any, base: Any) -> None:
    """Write the quantized weights of one network, in float32, over those of a whole one of the same kind."""
    from transformers.pytorch_utils import Conv1D

    places = dict(base.named_modules())
    for name, module in network.named_modules():
        if _is_quantized(module):
            target = places[name.removesuffix(".base_layer")]
            whole = _dequantized(module)
            with torch.no_grad():
                target.weight.copy_(whole.T if isinstance(target, Conv1D) else whole)


def _dequantized(module: Any) -> Tensor:
    if type(module.weight).__name__ == "Int8Params":
        return _rows(module.weight.data, module.weight.SCB)
    whole: Tensor = bitsandbytes().functional.dequantize_4bit(module.weight.data, module.weight.quant_state).float()
    return whole


def num_weights(parameter: nn.Parameter) -> int:
    """Return how many weights a parameter stands for: two a byte in 4 bits."""
    packed = type(parameter).__name__ == "Params4bit" and getattr(parameter, "quant_state", None) is not None
    return int(torch.Size(parameter.quant_state.shape).numel()) if packed else parameter.numel()  # type: ignore[attr-defined]
