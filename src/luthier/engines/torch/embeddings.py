"""Training only those rows of the embedding table that occur in the training data.

A row that never occurs has no gradient and, without weight decay, which embeddings never get here, never
moves. So leaving it out of the gradient and the optimizer changes nothing but time and memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional


class UsedRows(nn.Module):
    """In training the rows of ``used`` alone, else the whole table, brought up to date by ``synchronize``.

    Args:
        whole: the embedding that this stands for; its table takes up the trained rows.
        used: int [K], the ids whose rows are trained.

    Attributes:
        weight: float32 [K, H].
    """

    def __init__(self, whole: nn.Embedding, used: np.ndarray) -> None:
        super().__init__()
        self._whole = (whole,)  # in a tuple: its table is no parameter of the network any more
        ids = torch.tensor(used, dtype=torch.long, device=whole.weight.device)
        places = torch.full((whole.num_embeddings,), -1, device=ids.device)
        places[ids] = torch.arange(len(ids), device=ids.device)
        self._ids, self._places = ids, places
        self._padding = None if whole.padding_idx is None else int(places[whole.padding_idx])
        self.weight = nn.Parameter(whole.weight.detach()[ids].clone())

    @property
    def whole(self) -> nn.Embedding:
        return self._whole[0]

    def synchronize(self) -> None:
        """Write the trained rows into the whole table."""
        with torch.no_grad():
            self.whole.weight[self._ids] = self.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        """Look up [B, T] to [B, T, H]. In training, an id that is not in ``used`` is an IndexError."""
        if not self.training:
            return functional.embedding(input_ids, self.whole.weight)
        return functional.embedding(self._places[input_ids], self.weight, self._padding)


def train_used_rows(network: Any, used: np.ndarray | None) -> UsedRows | None:
    """Put ``UsedRows`` in place of the network's input embedding where that saves something and is exact.

    It is not where the table is frozen, or tied to an output layer that needs all of it.
    """
    whole = network.get_input_embeddings()
    if used is None or type(whole) is not nn.Embedding or not whole.weight.requires_grad:
        return None
    if network.get_output_embeddings() is not None:
        return None
    wanted = np.asarray(used)
    if whole.padding_idx is not None:
        wanted = np.union1d(wanted, [whole.padding_idx])
    pad_id = getattr(network.config, "pad_token_id", None)
    wanted = np.union1d(wanted, [pad_id or 0])
    if len(wanted) >= whole.num_embeddings:
        return None
    reduced = UsedRows(whole, wanted)
    whole.requires_grad_(False)
    network.set_input_embeddings(reduced)
    return reduced
