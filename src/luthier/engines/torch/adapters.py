"""Adapters: a few trained weights on a frozen network, through peft.

peft changes the network in place, keeps the books and defines the file format; the network stays the one of
transformers, so that packing, losses and writing do not know of adapters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from luthier.engines.torch import quantized, structure
from luthier.engines.torch.quantized import still
from luthier.engines.torch.virtual import VirtualTokens
from luthier.errors import InputError, SecurityError
from luthier.heads import CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, TokenHead, writes
from luthier.model_source import ADAPTER_CONFIG, BASE_CONFIG

WEIGHTS = "adapter_model.safetensors"
_MAGNITUDE = ".lora_magnitude_vector"
"""DoRA's lengths. peft reads them with ``.weight`` and without, transformers passes over them without."""

_TASK_TYPES = {
    SequenceHead: "SEQ_CLS",
    TokenHead: "TOKEN_CLS",
    SpanHead: "QUESTION_ANS",
    CausalHead: "CAUSAL_LM",
    Seq2SeqHead: "SEQ_2_SEQ_LM",
}
_KINDS = {"LORA": "lora", "IA3": "ia3", "PROMPT_TUNING": "prompt", "PREFIX_TUNING": "prefix"}


@dataclass(slots=True)
class Adapter:
    """An adapter on a network.

    Attributes:
        name: of the method: lora, dora, rslora, ia3, prompt, prefix.
        network: of transformers, changed in place.
        wrapper: peft's model around it.
        virtual: the virtual tokens of prompt and prefix, else None: such a network is never packed.
        initial: the adapter's own tensors as they were made; empty when it was loaded.
    """

    name: str
    network: Any
    wrapper: Any
    virtual: VirtualTokens | None
    initial: dict[str, Tensor] = field(default_factory=dict)

    @property
    def base(self) -> Path:
        """The folder of the base."""
        return Path(self.wrapper.peft_config["default"].base_model_name_or_path)

    @property
    def described(self) -> str:
        """What it is and where, for the log: ``lora on q_proj, v_proj (30 layers)``."""
        config = self.wrapper.peft_config["default"]
        if self.virtual is not None:
            return f"{self.name} of {self.virtual.count} virtual tokens"
        adapted = [name for name, module in self.network.named_modules() if _is_adapted(module)]
        ends = [end for end in sorted(config.target_modules) if any(structure.fits(name, end) for name in adapted)]
        used = dict.fromkeys(re.sub(r"^\d+\.", "", end) for end in ends)
        count = sum(any(_is_adapted(module) for module in layer.modules()) for layer in structure.layers(self.network))
        return f"{self.name} on {', '.join(used)} ({count} layers)"

    def changed(self) -> bool:
        """Whether training moved the adapter away from what leaves the network as it was."""
        now = self._decisive()
        return any(not torch.equal(now[name], value) for name, value in self.initial.items())

    def remember(self) -> None:
        """Keep the adapter's tensors, for ``changed``."""
        self.initial = {name: value.clone() for name, value in self._decisive().items()}

    def _decisive(self) -> dict[str, Tensor]:
        """The adapter's own tensors but LoRA's first factors: these change nothing while the second ones are zero."""
        heads = tuple(f"{name}." for name in structure.head_modules(self.network))
        return {
            name: parameter.detach()
            for name, parameter in self.network.named_parameters()
            if (parameter.requires_grad and ".lora_A." not in name)
            and (name.startswith("virtual_tokens.") or not name.startswith(heads))
        }

    def save(self, folder: Path) -> None:
        """Write adapter_config.json, adapter_model.safetensors (float32) and base_config.json.

        Raises:
            InputError: training changed nothing.
        """
        if self.initial and not self.changed():
            raise InputError(
                f"the adapter ({self.name}) is what it was before training, so it changes nothing",
                where=str(folder),
                fix="Raise train.learning_rate or train.duration.",
            )
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = get_peft_model_state_dict(self.wrapper, save_embedding_layers=False)
        whole = {
            f"{name}.weight" if name.endswith(_MAGNITUDE) else name: value.detach().float().cpu().contiguous().clone()
            for name, value in tensors.items()
        }
        save_file(whole, folder / WEIGHTS, metadata={"format": "pt"})
        config = self.wrapper.peft_config["default"]
        mode, config.inference_mode = config.inference_mode, True
        config.save_pretrained(str(folder))
        config.inference_mode = mode
        self.network.config.architectures = [type(self.network).__name__]
        self.network.config.to_json_file(str(folder / BASE_CONFIG))

    def save_merged(self, folder: Path, base: Any) -> None:
        """Write the whole model with the adapter merged into it.

        Args:
            folder: a new one.
            base: the same network in float32 without adapter; it is changed. Where this adapter's base is
                quantized, its weights are taken, not those of ``base``: the adapter was trained on them.

        Raises:
            InputError: virtual tokens are no weights of the network.
        """
        if self.virtual is not None:
            raise InputError(
                f'an adapter of the kind "{self.name}" cannot be merged: its virtual tokens are no weights of the network',
                fix="Use the adapter beside its base.",
            )
        from peft import get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict

        quantized.copy_weights(self.network, base)
        with still():
            config = deepcopy(self.wrapper.peft_config["default"])
            config.fan_in_fan_out = structure.transposed(base, config.target_modules)  # quantized layers never are
            wrapper = get_peft_model(base, config)
            set_peft_model_state_dict(wrapper, get_peft_model_state_dict(self.wrapper, save_embedding_layers=False))
        _merge(base)
        base.save_pretrained(str(folder))


def _merge(network: Any) -> None:
    """Put the merged linear layers and the trained heads in the place of peft's modules."""
    from peft.utils.other import ModulesToSaveWrapper

    for name, module in list(network.named_modules()):
        whole: Any = None
        if _is_adapted(module):
            merged: Any = module
            merged.merge(safe_merge=True)
            whole = merged.get_base_layer()
        elif isinstance(module, ModulesToSaveWrapper):
            whole = module.modules_to_save[str(module.active_adapter)]
        if whole is not None:
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, whole)


def _is_adapted(module: nn.Module) -> bool:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return isinstance(module, BaseTunerLayer)


def attach(network: Any, kind: str, head: Head, *, name: str, seed: int, **options: Any) -> Adapter:
    """Put a new adapter on a network and freeze the rest but its head.

    Args:
        network: of transformers, in float32; changed in place.
        kind: the name of peft's config class.
        head: its modules are trained in full beside the adapter; a vocabulary layer is not.
        name: of the method.
        seed: of the adapter's first weights.
        options: of peft's config.

    Raises:
        InputError: this family cannot have this adapter.
    """
    with still():
        import peft

        torch.manual_seed(seed)
        modules = None if writes(head) else structure.head_modules(network)
        config = getattr(peft, kind)(
            task_type=_TASK_TYPES[type(head)],
            modules_to_save=modules,
            base_model_name_or_path=str(Path(network.name_or_path).resolve()),
            **options,
        )
        try:
            adapter = _attached(network, config, head, name=name)
        except (ValueError, NotImplementedError, AttributeError, TypeError) as error:
            raise unfit(network, name) from error
        for key, parameter in network.named_parameters():
            if key.startswith("virtual_tokens."):
                parameter.requires_grad_(True)
    adapter.remember()
    return adapter


def _attached(network: Any, config: Any, head: Head, *, name: str) -> Adapter:
    import peft

    wrapper = peft.get_peft_model(network, config)
    virtual = VirtualTokens(network, wrapper, head) if config.is_prompt_learning else None
    return Adapter(name, network, wrapper, virtual)


def unfit(network: Any, name: str) -> InputError:
    """Return the refusal of a method by a family."""
    kind = network.config.model_type
    return InputError(
        f'a {type(network).__name__} (kind "{kind}") cannot be tuned by "{name}"',
        where="method",
        fix="Choose lora, which every family has.",
    )


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no whole model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def adapter_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json.

    Raises:
        InputError: it cannot be read, or is of a kind that is not known here.
        SecurityError: the weights are a pickle.
    """
    try:
        values = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"it cannot be read: {error}", where=str(folder / ADAPTER_CONFIG)) from error
    if not isinstance(values, dict) or values.get("peft_type") not in _KINDS:
        found = values.get("peft_type") if isinstance(values, dict) else None
        raise InputError(f"adapters of the kind {found!r} are not known here", where=str(folder / ADAPTER_CONFIG))
    if not (folder / WEIGHTS).is_file():
        if (folder / "adapter_model.bin").is_file():
            raise SecurityError(f"{folder}: the adapter's weights are a pickle, and reading one can run somebody else's code.")
        raise InputError(f"there are no weights: no {WEIGHTS}", where=str(folder))
    return values


def load_adapter(network: Any, folder: Path, head: Head, *, made: set[str]) -> Adapter:
    """Put a saved adapter on its base.

    Args:
        network: the base under the head, in float32; changed in place.
        folder: the adapter's.
        head: as it was trained.
        made: weights of the network that its folder lacked: the adapter must bring them.

    Raises:
        InputError: a tensor is missing, of another size, unused, or not finite.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    values = adapter_config(folder)
    try:
        tensors: dict[str, Tensor] = load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise InputError(f"its weights cannot be read: {error}", where=str(folder / WEIGHTS)) from error
    tensors = {name.removesuffix(".weight") if f"{_MAGNITUDE}." in name else name: value for name, value in tensors.items()}
    strange = [name for name, value in tensors.items() if not bool(torch.isfinite(value).all())]
    if strange:
        raise InputError(f"its weight {strange[0]} holds values that are not finite", where=str(folder / WEIGHTS))
    with still():
        import peft

        config = peft.PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        try:
            adapter = _attached(network, config, head, name=_name_of(values))
            expected = peft.get_peft_model_state_dict(adapter.wrapper, save_embedding_layers=False)
            _check_names(folder, {name: value.shape for name, value in expected.items()}, tensors)
            peft.set_peft_model_state_dict(adapter.wrapper, tensors)
        except (ValueError, RuntimeError, KeyError, AttributeError, TypeError) as error:
            raise InputError(f"this adapter does not fit its base: {error}", where=str(folder)) from error
    brought = tuple(f"{name}." for name in config.modules_to_save or ())
    missing = sorted(name for name in made if not name.startswith(brought))
    if missing:
        raise InputError(f"neither the adapter nor its base holds the weight {missing[0]}", where=str(folder))
    return adapter


def _name_of(values: Mapping[str, Any]) -> str:
    if values.get("use_dora"):
        return "dora"
    return "rslora" if values.get("use_rslora") else _KINDS[values["peft_type"]]


def _check_names(folder: Path, expected: Mapping[str, Sequence[int]], found: Mapping[str, Tensor]) -> None:
    differing = sorted(expected.keys() ^ found.keys()) or sorted(
        name for name, shape in expected.items() if tuple(found[name].shape) != tuple(shape)
    )
    if differing:
        raise InputError(
            f"{len(differing)} of its weights are missing, unused or of another size (such as {differing[0]})",
            where=str(folder),
        )


def num_parameters(network: Any) -> int:
    """Return the number of weights, the adapter's included: a quantized one counts as one, a replaced head not at all."""
    return sum(
        quantized.num_weights(parameter) for name, parameter in network.named_parameters() if ".original_module." not in name
    )


def store_products_in_bfloat16(network: Any) -> None:
    """Store the frozen linear layers of a network that runs under autocast in bfloat16: half the memory, no cast.

    The results are the same to the bit: autocast rounds these weights in this way at every use. Embeddings,
    norms, the vocabulary layer and everything that is trained stay in float32.
    """
    for module in structure.products(network).values():
        own = list(module.parameters(recurse=False))
        if own and not any(parameter.requires_grad or not parameter.is_floating_point() for parameter in own):
            for parameter in own:
                parameter.data = parameter.data.to(torch.bfloat16)
