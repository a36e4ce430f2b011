"""The optimizer: AdamW with clipping and without waiting for the device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from luthier.engines.engine import Choice
from luthier.engines.torch.embeddings import UsedRows
from luthier.engines.torch.quantized import bitsandbytes
from luthier.errors import InputError, did_you_mean

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
OPTIMIZERS = ("adamw", "adamw8bit")


def _decays(network: nn.Module) -> set[str]:
    """Return the names of the weights of matrices: no biases, no norms, no embeddings, told by the module's type."""
    names: set[str] = set()
    for prefix, module in network.named_modules():
        if isinstance(module, nn.Embedding | UsedRows | nn.LayerNorm | nn.RMSNorm) or "norm" in type(module).__name__.lower():
            continue
        names |= {
            f"{prefix}.{name}" if prefix else name
            for name, parameter in module.named_parameters(recurse=False)
            if name == "weight" and parameter.dim() >= 2
        }
    return names


class Optimizer:
    """AdamW over the trainable parameters of a network.

    Loshchilov and Hutter, Decoupled Weight Decay Regularization (2019); betas and epsilon are those of transformers' Trainer.
    ``adamw8bit`` keeps the moments of weights of 4096 values and more in 8 bits: Dettmers et al., 8-bit Optimizers via
    Block-wise Quantization (2022), through bitsandbytes.

    Raises:
        InputError: an optimizer or option that does not exist, or one whose package is not installed.
    """

    def __init__(self, network: nn.Module, choice: Choice, *, weight_decay: float) -> None:
        if choice.name not in OPTIMIZERS:
            raise InputError(
                f'no optimizer "{choice.name}"', where="train.optimizer", fix=did_you_mean(choice.name, OPTIMIZERS)
            )
        if choice.options:
            raise InputError(f'"{choice.name}" has no option "{next(iter(choice.options))}"', where="train.optimizer")
        self._parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
        decaying = _decays(network) if weight_decay else set()
        groups = [
            {"params": [p for name, p in self._parameters.items() if (name in decaying) == chosen], "weight_decay": decay}
            for chosen, decay in ((True, weight_decay), (False, 0.0))
        ]
        self._fused = choice.name == "adamw"
        self._adamw: Any = _made([group for group in groups if group["params"]], fused=self._fused)

    def update(self, learning_rate: float, max_grad_norm: float | None) -> Tensor:
        """Clip, step and clear; return the norm before clipping. A norm that is not finite changes nothing."""
        grads = [p.grad for p in self._parameters.values() if p.grad is not None]
        norm = nn.utils.get_total_norm(grads, foreach=True)
        for group in self._adamw.param_groups:
            group["lr"] = learning_rate
        scale = torch.ones_like(norm) if max_grad_norm is None else ((norm + 1e-6) / max_grad_norm).clamp(min=1.0)
        finite = torch.isfinite(norm)
        if self._fused:
            # The fused kernel divides by grad_scale and skips on found_inf, as for torch.amp.GradScaler: clipping so
            # takes no pass over the gradients of its own, and nobody waits for the norm.
            self._adamw.grad_scale = torch.where(finite, scale, 1.0).float()
            self._adamw.found_inf = (~finite).float()
            self._adamw.step()
        elif bool(finite):
            torch._foreach_div_(grads, scale)
            self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        return norm.detach()

    def state(self) -> dict[str, Tensor]:
        """Return the moments and step counters by the parameters' names."""
        return {
            # One table of 8-bit values serves all parameters; a file cannot say so.
            f"{key}:{name}": value.clone() if key.startswith("qmap") else torch.as_tensor(value)
            for name, parameter in self._parameters.items()
            for key, value in self._adamw.state.get(parameter, {}).items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take up what ``state`` gave."""
        self._adamw.state.clear()
        for entry, value in state.items():
            key, _, name = entry.partition(":")
            parameter = self._parameters[name]
            counts = key == "step" and not self._fused
            self._adamw.state[parameter][key] = int(value) if counts else value.to(parameter.device, copy=True)


def _made(groups: list[dict[str, Any]], *, fused: bool) -> Any:
    if fused:
        return torch.optim.AdamW(groups, lr=0.0, betas=_BETAS, eps=_EPSILON, fused=True)
    return bitsandbytes().optim.AdamW8bit(groups, lr=0.0, betas=_BETAS, eps=_EPSILON)
