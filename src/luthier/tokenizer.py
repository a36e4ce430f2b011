"""The tokenizer as tasks see it: ids and code-point offsets, and how a model joins its sequences.

Tasks tokenise without special tokens, choose what fits, and then ``join`` adds the special tokens as
the model's own tokenizer does (the pattern is read off two probe encodings, so every family works).
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from luthier.errors import InputError, did_you_mean
from luthier.vocabulary import TARGET_FILE, Vocabulary, read_vocabularies

if TYPE_CHECKING:
    from luthier.chat import ChatTemplate

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf", ".npz", ".ot")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokens of one text, without special tokens.

    Attributes:
        ids: int32 [T].
        starts: int32 [T], ends: int32 [T]: code points of the text, end exclusive.
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class WordTokens:
    """The tokens of one sequence of words, without special tokens.

    Attributes:
        ids: int32 [T].
        words: int32 [T], the index of the word that each token belongs to. A word may have no token.
    """

    ids: np.ndarray
    words: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Joined:
    """One or two sequences with the model's special tokens.

    Attributes:
        arrays: ``input_ids`` [T] and, for models that have them, ``token_type_ids`` [T]; int32.
        first: where the first sequence begins in ``input_ids``.
        second: where the second one begins; -1 without one.
    """

    arrays: dict[str, np.ndarray]
    first: int
    second: int = -1


class Tokenizer(Protocol):
    """What a task may ask of a tokenizer."""

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenise texts, without special tokens and without truncation."""

    def tokenize_words(self, sentences: Sequence[Sequence[str]]) -> list[WordTokens]:
        """Tokenise words one by one, as if each followed a blank."""

    def ids_of(self, texts: Sequence[str], *, target: bool = False) -> list[np.ndarray]:
        """Return the ids of texts, int32, without special tokens and offsets; ``target``: as an encoder-decoder's output."""

    def join(self, first: np.ndarray, second: np.ndarray | None = None) -> Joined:
        """Add the model's special tokens."""

    @property
    def target_affixes(self) -> tuple[np.ndarray, np.ndarray]:
        """The special tokens before and after an encoder-decoder's output: a language's code, the end."""

    @property
    def document_affixes(self) -> tuple[np.ndarray, np.ndarray]:
        """The special tokens before and after a document that a decoder reads."""

    @property
    def chat_template(self) -> ChatTemplate | None:
        """How the model writes dialogues; None where it says nothing of that."""

    @property
    def special_tokens(self) -> Mapping[str, str]:
        """The special tokens by role: ``bos_token``, ``eos_token`` ..."""

    def special_id(self, text: str) -> int | None:
        """Return the id of a special token; None where ``text`` is not exactly one."""

    def num_special(self, *, pair: bool = False) -> int:
        """Return how many special tokens ``join`` adds."""

    def limit_for(self, wanted: int | None, *, default: int) -> int:
        """Return ``wanted``, or the least of the model's limit and ``default``.

        Raises:
            InputError: ``wanted`` is more than the model's limit, or leaves no room beside special tokens.
        """

    def decode(self, ids: np.ndarray, *, special: bool = False, source: bool = False) -> str:
        """Return the text of ids; with ``special`` the special tokens stand in it.

        ``source``: of what an encoder-decoder reads, not of what it writes.
        """

    def save(self, folder: Path) -> None: ...


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Special tokens around one or two sequences: ids and type ids of each gap."""

    gaps: tuple[np.ndarray, ...]
    gap_types: tuple[np.ndarray, ...]
    types: tuple[int, ...]


class HubTokenizer:
    """A fast tokenizer of the hub's folder format, through transformers.

    Raises:
        InputError: the folder holds no tokenizer, or only one without offsets ("slow").
    """

    def __init__(
        self, folder: Path, *, model_limit: int | None = None, languages: tuple[str | None, str | None] = (None, None)
    ) -> None:
        from transformers import AutoTokenizer
        from transformers.utils import logging

        self._folder, self._languages = folder, languages
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # it warns of kinds of models that it does not know, and needs none for a tokenizer
        try:
            self._hub: Any = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
        except ImportError as error:
            raise InputError(
                f"its tokenizer needs a package: {str(error).strip().splitlines()[0]}", where=str(folder)
            ) from error
        except (OSError, ValueError, KeyError) as error:
            raise InputError(
                "there is no tokenizer that can be read", where=str(folder), fix="A model folder needs tokenizer.json."
            ) from error
        finally:
            logging.set_verbosity(verbosity)
        self._set_languages(*languages)
        limits = [limit for limit in (model_limit, self._hub.model_max_length) if limit and limit < 1_000_000]
        self.limit: int | None = min(limits, default=None)
        self._has_types = "token_type_ids" in self._hub.model_input_names
        self._patterns = {False: self._probe(pair=False), True: self._probe(pair=True)}
        self._words: Any = None
        self._sides: tuple[Vocabulary, Vocabulary] | None = read_vocabularies(folder, self._hub) if self._hub.is_fast else None

    def _set_languages(self, source: str | None, target: str | None) -> None:
        """Tell a multilingual tokenizer its languages; other tokenizers do not ask."""
        for attribute, role, code in (("src_lang", "source_language", source), ("tgt_lang", "target_language", target)):
            if not hasattr(self._hub, attribute):
                continue
            known = _language_codes(self._hub)
            if code is None:
                raise InputError(
                    "this model writes several languages and must be told which",
                    where=f"task.{role}",
                    fix=f"It knows {', '.join(known[:6])} and {len(known) - 6} more." if known else None,
                )
            if known and code not in known:
                near = [name for name in known if name.split("_")[0] == code]
                if len(near) != 1:
                    raise InputError(
                        f'this model knows no language "{code}"', where=f"task.{role}", fix=did_you_mean(code, known)
                    )
                code = near[0]
            setattr(self._hub, attribute, code)

    def _probe(self, *, pair: bool) -> _Pattern:
        if not self._hub.is_fast:
            return self._probe_slow(pair=pair)
        encoded = self._hub("a", "a" if pair else None, return_token_type_ids=True)
        sides = encoded.sequence_ids(0)
        ids, types = encoded["input_ids"], encoded["token_type_ids"]
        gaps: list[list[int]] = [[]]
        gap_types: list[list[int]] = [[]]
        sequence_types: list[int] = []
        last: int | None = None
        for token, kind, side in zip(ids, types, sides, strict=True):
            if side is None:
                gaps[-1].append(token)
                gap_types[-1].append(kind)
            elif side != last:
                last = side
                sequence_types.append(kind)
                gaps.append([])
                gap_types.append([])
        return _Pattern(
            tuple(np.asarray(gap, dtype=np.int32) for gap in gaps),
            tuple(np.asarray(gap, dtype=np.int32) for gap in gap_types),
            tuple(sequence_types),
        )

    def _probe_slow(self, *, pair: bool) -> _Pattern:
        """Find the special tokens around the ids of "a"; such tokenizers have no type ids here."""
        alone = self._hub("a", add_special_tokens=False)["input_ids"]
        whole = self._hub("a", "a" if pair else None)["input_ids"]
        gaps: list[list[int]] = [[]]
        place = 0
        while place < len(whole):
            if whole[place : place + len(alone)] == alone and len(gaps) < 2 + pair:
                gaps.append([])
                place += len(alone)
            else:
                gaps[-1].append(whole[place])
                place += 1
        arrays = tuple(np.asarray(gap, dtype=np.int32) for gap in gaps)
        return _Pattern(arrays, tuple(np.zeros_like(gap) for gap in arrays), (0,) * (len(gaps) - 1))

    def _with_offsets(self) -> Vocabulary:
        if self._sides is None:
            raise InputError(
                "its tokenizer gives no character offsets",
                where=str(self._folder),
                fix="Convert it to tokenizer.json with transformers.",
            )
        return self._sides[0]

    def ids_of(self, texts: Sequence[str], *, target: bool = False) -> list[np.ndarray]:
        if not texts:
            return []
        if self._sides is not None:
            return self._sides[target].ids_of(texts)
        given = {"text_target": list(texts)} if target else {"text": list(texts)}
        return [np.asarray(ids, dtype=np.int32) for ids in self._hub(**given, add_special_tokens=False)["input_ids"]]

    @property
    def target_affixes(self) -> tuple[np.ndarray, np.ndarray]:
        alone = self._hub(text_target="a", add_special_tokens=False)["input_ids"]
        whole = self._hub(text_target="a")["input_ids"]
        starts = [place for place in range(len(whole)) if whole[place : place + len(alone)] == alone]
        start = starts[0] if starts else 0
        before, after = whole[:start], whole[start + len(alone) :]
        if not after and self._hub.eos_token_id is not None:
            after = [self._hub.eos_token_id]  # else the model would never learn to end
        return np.asarray(before, dtype=np.int32), np.asarray(after, dtype=np.int32)

    @property
    def document_affixes(self) -> tuple[np.ndarray, np.ndarray]:
        own = self._patterns[False].gaps[0]
        # Chat models end a turn with another token than a document; this one is what GPT-2, Qwen and SmolLM read.
        end = self.special_id("<|endoftext|>")
        end = self._hub.eos_token_id if end is None else end
        after = np.asarray([] if end is None else [end], dtype=np.int32)
        return (own if len(own) else after), after

    @property
    def special_tokens(self) -> Mapping[str, str]:
        return {role: str(token) for role, token in self._hub.special_tokens_map.items() if isinstance(token, str)}

    @functools.cached_property
    def chat_template(self) -> ChatTemplate | None:
        template = self._hub.chat_template
        if template is None:
            return None
        if isinstance(template, dict):
            template = template.get("default")
        if not template:
            return None
        from luthier.chat import ChatTemplate

        return ChatTemplate(template, self.special_tokens)

    def special_id(self, text: str) -> int | None:
        token = self._hub.convert_tokens_to_ids(text)
        known = isinstance(token, int) and self._hub.convert_ids_to_tokens(token) == text
        return (
            token if (known and token in self._hub.all_special_ids) or (known and text in self._hub.get_added_vocab()) else None
        )

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        if not texts:
            return []
        side = self._with_offsets()
        encodings = side.backend.encode_batch(list(texts), add_special_tokens=False)
        result = []
        for encoding in encodings:
            # Three times as fast as asarray on pairs.
            offsets = np.fromiter(itertools.chain.from_iterable(encoding.offsets), dtype=np.int32).reshape(-1, 2)
            result.append(Tokens(side.known(encoding.ids), offsets[:, 0], offsets[:, 1]))
        return result

    def tokenize_words(self, sentences: Sequence[Sequence[str]]) -> list[WordTokens]:
        if not sentences:
            return []
        side = self._with_offsets()
        encodings = self._word_backend().encode_batch(
            [list(words) for words in sentences], is_pretokenized=True, add_special_tokens=False
        )
        return [WordTokens(side.known(encoding.ids), np.asarray(encoding.word_ids, dtype=np.int32)) for encoding in encodings]

    def _word_backend(self) -> Any:
        """Return the backend; byte-level ones get the blank before a word that they would see in running text."""
        if self._words is None:
            from tokenizers import Tokenizer as Backend

            spec = json.loads(self._hub.backend_tokenizer.to_str())
            parts = spec.get("pre_tokenizer") or {}
            changed = False
            for part in parts.get("pretokenizers", [parts]):
                if part.get("type") == "ByteLevel" and not part.get("add_prefix_space") and part.get("use_regex", True):
                    part["add_prefix_space"] = changed = True
            self._words = Backend.from_str(json.dumps(spec)) if changed else self._hub.backend_tokenizer
        return self._words

    def join(self, first: np.ndarray, second: np.ndarray | None = None) -> Joined:
        pattern = self._patterns[second is not None]
        sequences = [first] if second is None else [first, second]
        ids: list[np.ndarray] = [pattern.gaps[0]]
        types: list[np.ndarray] = [pattern.gap_types[0]]
        for index, sequence in enumerate(sequences):
            ids += [sequence, pattern.gaps[index + 1]]
            types += [np.full(len(sequence), pattern.types[index], dtype=np.int32), pattern.gap_types[index + 1]]
        arrays = {"input_ids": np.concatenate(ids).astype(np.int32)}
        if self._has_types:
            arrays["token_type_ids"] = np.concatenate(types).astype(np.int32)
        start = len(pattern.gaps[0])
        return Joined(arrays, start, -1 if second is None else start + len(first) + len(pattern.gaps[1]))

    def num_special(self, *, pair: bool = False) -> int:
        return sum(len(gap) for gap in self._patterns[pair].gaps)

    def limit_for(self, wanted: int | None, *, default: int) -> int:
        if wanted is None:
            return min(default, self.limit or default)
        if self.limit and wanted > self.limit:
            raise InputError(f"found {wanted}; this model takes at most {self.limit} tokens", where="task.max_tokens")
        if wanted <= self.num_special(pair=True) + 1:
            raise InputError(f"found {wanted}; special tokens alone fill that", where="task.max_tokens")
        return wanted

    def decode(self, ids: np.ndarray, *, special: bool = False, source: bool = False) -> str:
        if self._sides is not None and self._sides[0] is not self._sides[1]:
            return self._sides[not source].decode(ids, special=special)
        text: str = self._hub.decode(ids.tolist(), skip_special_tokens=not special, clean_up_tokenization_spaces=False)
        return text

    def save(self, folder: Path) -> None:
        self._hub.save_pretrained(str(folder))
        if self._sides is not None and self._sides[0] is not self._sides[1]:
            self._sides[1].backend.save(str(folder / TARGET_FILE))

    def digest(self) -> str:
        """Return a digest of all that decides its tokens: the folder's files but for weights, the languages, the limit.

        Which files a tokenizer reads depends on its kind, so all of them count.
        """
        total = hashlib.sha256(json.dumps([type(self._hub).__name__, self._languages, self.limit]).encode())
        for path in sorted([*self._folder.iterdir(), *(self._folder / "additional_chat_templates").glob("*")]):
            if path.is_file() and path.suffix not in _WEIGHTS:
                with path.open("rb") as stream:
                    digest = hashlib.file_digest(stream, "sha256").hexdigest()
                total.update(f"{path.relative_to(self._folder)}\0{digest}\0".encode())
        return total.hexdigest()


def _language_codes(hub: Any) -> list[str]:
    """Return the codes that a multilingual tokenizer knows (mBART, NLLB, M2M100), sorted."""
    codes = getattr(hub, "lang_code_to_id", None) or getattr(hub, "fairseq_language_codes", None) or ()
    if not codes:
        codes = [token for token in getattr(hub, "additional_special_tokens", ()) or hub.all_special_tokens if "_" in token]
        codes = [token.strip("_") for token in codes if token not in hub.special_tokens_map.values()]
    return sorted(codes)
