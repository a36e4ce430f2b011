"""Positions of packed encoder-decoders.

Marian, BART and their kin take a token's position from its place in the row. In a packed row they are told where
the sequences stand by the keyword ``segments``, and positions restart there. Without it, as when they write,
they work as always. Nothing of this is saved.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from luthier.engines.torch.attention import PairSegments, Segments


class RestartedPositions:
    """Hooks on an encoder or a decoder and on its position embedding, as long as it is not removed.

    The embedding itself is asked for the positions of the longest sequence; the others take the same ones.

    Args:
        stack: has ``embed_positions``, a module whose every argument has the length of the row in it.
        decodes: whether it reads the targets.
    """

    def __init__(self, stack: Any, *, decodes: bool) -> None:
        self._decodes = decodes
        self._segments: Segments | None = None
        self._handles = [
            stack.register_forward_pre_hook(self._begin, with_kwargs=True),
            stack.register_forward_hook(self._end, always_call=True),
            stack.embed_positions.register_forward_pre_hook(self._shorten, with_kwargs=True),
            stack.embed_positions.register_forward_hook(self._restart),
        ]

    def remove(self) -> None:
        """Leave the network as it was."""
        for handle in self._handles:
            handle.remove()

    def _begin(self, _: Any, __: Any, kwargs: dict[str, Any]) -> None:
        segments = kwargs.get("segments")
        if isinstance(segments, PairSegments):
            self._segments = segments.targets if self._decodes else segments.sources

    def _end(self, *_: Any) -> None:
        self._segments = None

    def _shorten(self, _: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        segments = self._segments
        if segments is None:
            return None
        tokens, longest = int(segments.positions.numel()), segments.longest
        shortened = {name: _shortened(value, tokens, longest) for name, value in kwargs.items()}
        return tuple(_shortened(value, tokens, longest) for value in args), shortened

    def _restart(self, _: Any, __: Any, output: Tensor) -> Tensor:
        return output if self._segments is None else output.index_select(-2, self._segments.positions)


def _shortened(value: Any, tokens: int, longest: int) -> Any:
    """Cut an argument to ``longest`` along the axis of the row: ids [1, T], states [1, T, H], positions [T], a shape."""
    if isinstance(value, Tensor):
        axis = 0 if value.dim() == 1 else 1
        return value.narrow(axis, 0, longest) if value.dim() and value.shape[axis] == tokens else value
    if isinstance(value, tuple):
        return torch.Size(longest if size == tokens else size for size in value)
    return value


def restart_positions(network: Any) -> list[RestartedPositions]:
    """Let both stacks of an encoder-decoder count positions inside each sequence; none where they embed no positions."""
    stacks = ((network.get_encoder(), False), (network.get_decoder(), True))
    return [RestartedPositions(stack, decodes=decodes) for stack, decodes in stacks if hasattr(stack, "embed_positions")]
