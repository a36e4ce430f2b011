"""Files of weights in two foreign forms become folders that load and compute what the files' own programs compute."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from luthier.errors import InputError
from luthier.samples import gguf, marian

# GGUF, written as https://github.com/ggml-org/ggml/blob/master/docs/gguf.md describes it

WIDTH, HEADS, KV_HEADS, INNER, LAYERS = 32, 4, 2, 64, 2
HEAD = WIDTH // HEADS
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2"]
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokens() -> list[str]:
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet()), *(merge.replace(" ", "") for merge in MERGES)]


def entries(**changed: Any) -> dict[str, tuple[int, Any]]:
    """Return the entries by name, each with its kind; ``changed`` by the last part of a name, None leaves one out."""
    listed = tokens()
    found = {
        "general.architecture": (8, "llama"), "general.languages": (9, (8, ["en"])), "llama.block_count": (4, LAYERS),
        "llama.context_length": (4, 64), "llama.embedding_length": (4, WIDTH), "llama.feed_forward_length": (4, INNER),
        "llama.attention.head_count": (4, HEADS), "llama.attention.head_count_kv": (4, KV_HEADS),
        "llama.rope.freq_base": (6, 500.0), "llama.attention.layer_norm_rms_epsilon": (6, 1e-3),
        "llama.vocab_size": (4, len(listed)), "tokenizer.ggml.add_bos_token": (7, False), "tokenizer.ggml.model": (8, "gpt2"),
        "tokenizer.ggml.pre": (8, "smollm"), "tokenizer.ggml.tokens": (9, (8, listed)),
        "tokenizer.ggml.token_type": (9, (5, [3 if token in SPECIAL else 1 for token in listed])),
        "tokenizer.ggml.merges": (9, (8, MERGES)), "tokenizer.ggml.bos_token_id": (4, 1),
        "tokenizer.ggml.eos_token_id": (4, 2), "tokenizer.ggml.unknown_token_id": (4, 0),
        "tokenizer.ggml.padding_token_id": (4, 2), "tokenizer.chat_template": (8, TEMPLATE),
    }  # fmt: skip
    names = {name.split(".")[-1]: name for name in found}
    found |= {names[short]: (found[names[short]][0], value) for short, value in changed.items() if short in names}
    found |= {f"general.{short}": (4, value) for short, value in changed.items() if short not in names}
    return {name: pair for name, pair in found.items() if pair[1] is not None}


def encoded(kind: int, value: Any) -> bytes:
    if kind == 8:
        return struct.pack("<Q", len(value.encode())) + value.encode()
    if kind == 9:
        inner, items = value
        return struct.pack("<IQ", inner, len(items)) + b"".join(encoded(inner, item) for item in items)
    return struct.pack(f"<{ {4: 'I', 5: 'i', 6: 'f', 7: '?'}[kind] }", value)


def quantised(kind: int, weights: np.ndarray) -> tuple[bytes, np.ndarray]:
    """Write weights one by one as the description of a kind says, and return what they become."""
    if kind == 0:
        return weights.astype("<f4").tobytes(), weights
    raw, back = b"", []
    for block in weights.reshape(-1, 32):
        if kind == 8:
            scale = np.float16(max(abs(value) for value in block) / 127)
            whole = [min(127, max(-127, round(float(value) / float(scale)))) for value in block]
            raw += scale.tobytes() + struct.pack("32b", *whole)
            back += [float(scale) * number for number in whole]
        else:
            scale, least = np.float16((block.max() - block.min()) / 15), np.float16(block.min())
            whole = [min(15, max(0, round((float(value) - float(least)) / float(scale)))) for value in block]
            raw += scale.tobytes() + least.tobytes() + bytes(whole[i] + 16 * whole[i + 16] for i in range(16))
            back += [float(scale) * number + float(least) for number in whole]
    return raw, np.array(back, dtype=np.float32).reshape(weights.shape)


def shapes() -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {"token_embd.weight": (len(tokens()), WIDTH), "output_norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        square, grouped = (WIDTH, WIDTH), (KV_HEADS * HEAD, WIDTH)
        parts = {"attn_q": square, "attn_k": grouped, "attn_v": grouped, "attn_output": square, "attn_norm": (WIDTH,)}
        parts |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER), "ffn_norm": (WIDTH,)}
        found |= {f"blk.{layer}.{part}.weight": shape for part, shape in parts.items()}
    return found


def a_gguf_file(*, kinds: dict[str, int] | None = None, extra: str = "", **changed: Any) -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a file and what its tensors are, in the file's own order."""
    random = np.random.default_rng(0)
    alignment = changed.get("alignment", 32)
    values, listed, body = {}, b"", b""
    every = shapes() | ({extra: (WIDTH,)} if extra else {})
    for name, shape in every.items():
        kind = 0 if len(shape) == 1 else 8 if name == "token_embd.weight" else 3
        raw, values[name] = quantised(kind, random.standard_normal(shape).astype(np.float32))
        body += bytes(-len(body) % alignment)
        kind = (kinds or {}).get(name, kind)
        listed += encoded(8, name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape[::-1], kind, len(body))
        body += raw
    given = entries(**changed)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(every), len(given))
    head += b"".join(encoded(8, name) + struct.pack("<I", kind) + encoded(kind, value) for name, (kind, value) in given.items())
    head += listed
    return head + bytes(-len(head) % alignment) + body, values


def llama(values: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Return logits [T, V] as llama.cpp computes them: rotary positions turn neighbours, 2i with 2i + 1."""

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-3) * values[f"{name}.weight"]

    def turned(x: np.ndarray) -> np.ndarray:
        angles = np.arange(len(x))[:, None, None] * 500.0 ** (-np.arange(0, HEAD, 2) / HEAD)
        result = np.empty_like(x)
        result[..., 0::2] = x[..., 0::2] * np.cos(angles) - x[..., 1::2] * np.sin(angles)
        result[..., 1::2] = x[..., 0::2] * np.sin(angles) + x[..., 1::2] * np.cos(angles)
        return result

    values = {name: value.astype(np.float64) for name, value in values.items()}
    x = values["token_embd.weight"][ids]
    for layer in range(LAYERS):
        part = {name: values[f"blk.{layer}.{name}.weight"] for name in gguf._NAMES if "norm" not in name}
        states = norm(x, f"blk.{layer}.attn_norm")
        q, k, v = ((states @ part[f"attn_{name}"].T).reshape(len(ids), -1, HEAD) for name in "qkv")
        q, k = turned(q), turned(k)
        attended = []
        for head in range(HEADS):
            seen = head // (HEADS // KV_HEADS)
            scores = q[:, head] @ k[:, seen].T / np.sqrt(HEAD) + np.triu(np.full((len(ids), len(ids)), -np.inf), 1)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            attended.append(weights / weights.sum(-1, keepdims=True) @ v[:, seen])
        x = x + np.concatenate(attended, -1) @ part["attn_output"].T
        states = norm(x, f"blk.{layer}.ffn_norm")
        gate = states @ part["ffn_gate"].T
        x = x + (gate / (1 + np.exp(-gate)) * (states @ part["ffn_up"].T)) @ part["ffn_down"].T
    return norm(x, "output_norm") @ values["token_embd.weight"].T


def test_a_gguf_file_becomes_a_folder_that_computes_what_llama_cpp_does(tmp_path: Path):
    import torch
    from transformers import LlamaForCausalLM

    data, values = a_gguf_file()
    gguf.convert(data, tmp_path)
    model, facts = LlamaForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not facts["missing_keys"]
    assert not facts["unexpected_keys"]
    state = model.state_dict()
    for name, theirs in {
        "token_embd": "embed_tokens", "output_norm": "norm", "blk.1.attn_v": "layers.1.self_attn.v_proj",
        "blk.0.attn_output": "layers.0.self_attn.o_proj", "blk.1.ffn_down": "layers.1.mlp.down_proj",
        "blk.0.attn_norm": "layers.0.input_layernorm", "blk.1.ffn_norm": "layers.1.post_attention_layernorm",
    }.items():  # fmt: skip
        np.testing.assert_array_equal(state[f"model.{theirs}.weight"].numpy(), values[f"{name}.weight"])
    for part, heads in (("q", HEADS), ("k", KV_HEADS)):
        # llama.cpp's converter puts row i of a head's halves to 2i and 2i + 1.
        ours, theirs = state[f"model.layers.1.self_attn.{part}_proj.weight"].numpy(), values[f"blk.1.attn_{part}.weight"]
        for head in range(heads):
            for half in (0, 1):
                for i in range(HEAD // 2):
                    np.testing.assert_array_equal(ours[head * HEAD + half * HEAD // 2 + i], theirs[head * HEAD + 2 * i + half])
    ids = [5, 70, 1, 200, 33, 33, 90]
    with torch.no_grad():
        logits = model.eval()(torch.tensor([ids])).logits[0].numpy()
    np.testing.assert_allclose(logits, llama(values, ids), rtol=1e-4, atol=1e-3)
    assert model.config.max_position_embeddings == 64


def test_its_tokenizer_knows_bytes_merges_digits_specials_and_the_chat_template(tmp_path: Path):
    from transformers import AutoTokenizer

    gguf.convert(a_gguf_file()[0], tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer("hello hello 1234")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["hello", "Ġhello", "Ġ", "1", "2", "3", "4"]
    assert ids[0] == tokens().index("hello")
    for text in ("Ça va ? 好 🎉", "  two  blanks\n\tand a tab ", "don't , no"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert tokenizer("<|im_start|>he")["input_ids"] == [1, tokens().index("he")]
    assert tokenizer.decode([1, tokens().index("he"), 2], skip_special_tokens=True) == "he"
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id) == (1, 2, 0, 2)
    assert tokenizer.model_max_length == 64
    said = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False, add_generation_prompt=True)
    assert said == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


def test_a_file_that_is_aligned_otherwise_holds_the_same_weights(tmp_path: Path):
    for alignment in (32, 128):
        (tmp_path / str(alignment)).mkdir()
        gguf.convert(a_gguf_file(alignment=alignment)[0], tmp_path / str(alignment))
    first, second = (tmp_path / name / "model.safetensors" for name in ("32", "128"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"architecture": "qwen2"}, "general.architecture is qwen2, not llama"),
        ({"pre": "llama-bpe"}, "tokenizer.ggml.pre is llama-bpe"),
        ({"freq_base": None}, "lacks something .*rope.freq_base"),
        ({"chat_template": None}, "lacks something .*chat_template"),
        ({"kinds": {"blk.0.attn_q.weight": 12}}, "kind 12, which is not known"),
        ({"extra": "output.weight"}, "not known here: output.weight"),
        ({"extra": "blk.0.attn_q.bias"}, "not known here: blk.0.attn_q.bias"),
        ({"extra": "blk.0.attn_sinks.weight"}, "not known here: blk.0.attn_sinks.weight"),
    ],
)
def test_a_gguf_file_of_another_model_is_refused(changed: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises(InputError, match=said):
        gguf.convert(a_gguf_file(**changed)[0], tmp_path)


@pytest.mark.parametrize("start", [b"GGML\x03\0\0\0", b"GGUF\x02\0\0\0", b"GGUF", b""])
def test_another_file_is_no_gguf_file_of_version_3(start: bytes, tmp_path: Path):
    with pytest.raises(InputError, match="no GGUF file of version 3"):
        gguf.convert(start + a_gguf_file()[0][8:] if len(start) == 8 else start, tmp_path)


def test_a_gguf_file_is_refused_wherever_it_is_cut_or_damaged(tmp_path: Path):
    data, _ = a_gguf_file()
    for length in [*range(8, len(data), 397), len(data) - 1]:
        with pytest.raises(InputError, match="cut off"):
            gguf.convert(data[:length], tmp_path)
    for place in (8, 16, 24):  # numbers of tensors, of entries, the length of the first name
        with pytest.raises(InputError):
            gguf.convert(data[:place] + b"\xff" * 8 + data[place + 8 :], tmp_path)
    assert list(tmp_path.iterdir()) == []


# Marian's own format: what intgemm stores, with the sizes of a student in little

PIECES = ["</s>", "<unk>", "▁", "▁good", "▁go", "od", "g", "o", "d", "1"]
DEPTH = {"encoder": (2, 24), "decoder": (1, 40)}
THIN = 16


def marian_tensors() -> dict[str, np.ndarray]:
    """Return random weights by Marian's names; a matrix maps rows of inputs to columns of outputs."""
    random = np.random.default_rng(1)
    shapes: dict[str, tuple[int, int]] = {"Wemb": (len(PIECES), THIN), "decoder_ff_logit_out_b": (1, len(PIECES))}
    for side, (layers, inner) in DEPTH.items():
        for layer in (f"{side}_l{number}" for number in range(1, layers + 1)):
            blocks = ("self",) if side == "encoder" else ("context",)
            for name in (f"{layer}_{block}" for block in blocks):
                shapes |= {f"{name}_W{letter}": (THIN, THIN) for letter in "qkvo"} | {f"{name}_b{x}": (1, THIN) for x in "qkvo"}
                shapes |= {f"{name}_Wo_ln_{what}": (1, THIN) for what in ("scale", "bias")}
            if side == "decoder":
                shapes |= {f"{layer}_rnn_W": (THIN, THIN), f"{layer}_rnn_Wf": (THIN, THIN), f"{layer}_rnn_bf": (1, THIN)}
                shapes |= {f"{layer}_rnn_ffn_ln_{what}": (1, THIN) for what in ("scale", "bias")}
            shapes |= {f"{layer}_ffn_W1": (THIN, inner), f"{layer}_ffn_b1": (1, inner), f"{layer}_ffn_W2": (inner, THIN)}
            shapes |= {f"{layer}_ffn_b2": (1, THIN)} | {f"{layer}_ffn_ffn_ln_{what}": (1, THIN) for what in ("scale", "bias")}
    return {name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def a_marian_file(*, version: int = 1, without: str = "") -> tuple[bytes, dict[str, np.ndarray]]:
    """Return a file and what its tensors become."""
    listed: list[tuple[str, int, tuple[int, ...], bytes]] = []
    values = marian_tensors()
    values.pop(without, None)
    for name, weights in list(values.items()):
        if weights.shape[0] == 1:
            listed.append((name, 0x404, weights.shape, weights.tobytes()))
            continue
        multiplier = np.float32(127 / np.abs(weights).max())
        whole = np.round(weights * multiplier).astype(np.int8)
        values[name] = (whole / multiplier).astype(np.float32)
        stored = whole if name == "Wemb" else whole.T
        listed.append((name, 0x4101, weights.shape, stored.tobytes() + multiplier.tobytes()))
        listed.append((f"{name}_QuantMultA", 0x4101 if name == "Wemb" else 0x404, (1, 1), struct.pack("<f", 9.0)))
    listed.append(("special:model.yml", 0x101, (4,), b"a: 1"))
    bodies = [body + bytes(-len(body) % 256) for *_, body in listed]
    data = struct.pack("<QQ", version, len(listed))
    for (name, kind, shape, _), body in zip(listed, bodies, strict=True):
        data += struct.pack("<4Q", len(name) + 1, kind, len(shape), len(body))
    data += b"".join(name.encode() + b"\0" for name, *_ in listed)
    data += b"".join(struct.pack(f"<{len(shape)}i", *shape) for _, _, shape, _ in listed)
    padding = -(len(data) + 8) % 256
    return data + struct.pack("<Q", padding) + bytes(padding) + b"".join(bodies), values


def a_tokenizer(pieces: list[str] | None = None) -> bytes:
    """Return a tokenizer.json as the package has it: no special tokens, nothing at the end of a sentence."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    backend = Tokenizer(models.Unigram([(piece, -float(rank)) for rank, piece in enumerate(pieces or PIECES)], unk_id=1))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    return backend.to_str().encode()


def student(values: dict[str, np.ndarray], source: list[int], target: list[int | None]) -> np.ndarray:
    """Return logits [T, V] as Marian computes them: post-norm, SSRU; None is the start, an embedding of zeros."""
    values = {name: value.astype(np.float64) for name, value in values.items()}

    def embedded(ids: list[int | None]) -> np.ndarray:
        rows = [np.zeros(THIN) if i is None else values["Wemb"][i] * np.sqrt(THIN) for i in ids]
        angles = np.arange(len(ids))[:, None] / 10000 ** (np.arange(THIN // 2) / (THIN // 2))
        return np.stack(rows) + np.concatenate([np.sin(angles), np.cos(angles)], 1)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * values[f"{name}_ln_scale"] + values[f"{name}_ln_bias"]

    def attend(x: np.ndarray, memory: np.ndarray, name: str) -> np.ndarray:
        q, k, v = (
            side @ values[f"{name}_W{c}"] + values[f"{name}_b{c}"] for side, c in ((x, "q"), (memory, "k"), (memory, "v"))
        )
        parts = []
        for cut in (slice(i, i + THIN // 8) for i in range(0, THIN, THIN // 8)):
            weights = np.exp(q[:, cut] @ k[:, cut].T / np.sqrt(THIN // 8))
            parts.append(weights / weights.sum(-1, keepdims=True) @ v[:, cut])
        return norm(x + np.concatenate(parts, 1) @ values[f"{name}_Wo"] + values[f"{name}_bo"], f"{name}_Wo")

    def feed(x: np.ndarray, name: str) -> np.ndarray:
        inner = np.maximum(x @ values[f"{name}_W1"] + values[f"{name}_b1"], 0)
        return norm(x + inner @ values[f"{name}_W2"] + values[f"{name}_b2"], f"{name}_ffn")

    memory = embedded(list(source))
    for layer in ("encoder_l1", "encoder_l2"):
        memory = feed(attend(memory, memory, f"{layer}_self"), f"{layer}_ffn")
    x, cells = embedded(target), [np.zeros(THIN)]
    for row in x:
        kept = 1 / (1 + np.exp(-(row @ values["decoder_l1_rnn_Wf"] + values["decoder_l1_rnn_bf"][0])))
        cells.append(kept * cells[-1] + (1 - kept) * (row @ values["decoder_l1_rnn_W"]))
    x = norm(x + np.maximum(np.stack(cells[1:]), 0), "decoder_l1_rnn_ffn")
    x = feed(attend(x, memory, "decoder_l1_context"), "decoder_l1_ffn")
    return x @ values["Wemb"].T + values["decoder_ff_logit_out_b"]


def test_a_marian_file_becomes_a_folder_that_computes_what_marian_does(tmp_path: Path):
    import torch

    from luthier.engines.torch.loading import load_network
    from luthier.heads import Seq2SeqHead

    data, values = a_marian_file()
    marian.convert(data, a_tokenizer(), tmp_path)
    loaded = load_network(tmp_path, Seq2SeqHead(), seed=None)
    assert loaded.head == "from the checkpoint"
    assert loaded.unused == ()
    state = loaded.network.state_dict()
    for theirs, ours in {
        "encoder_l2_self_Wq": "encoder.layers.1.self_attn.q_proj", "encoder_l1_ffn_W1": "encoder.layers.0.fc1",
        "decoder_l1_context_Wo": "decoder.layers.0.encoder_attn.out_proj", "decoder_l1_ffn_W2": "decoder.layers.0.fc2",
        "decoder_l1_rnn_Wf": "decoder.layers.0.self_attn.forget",
    }.items():  # fmt: skip
        np.testing.assert_array_equal(state[f"model.{ours}.weight"].numpy(), values[theirs].T)
    pad = len(PIECES)
    for name in ("model.shared", "lm_head", "model.encoder.embed_tokens", "model.decoder.embed_tokens"):
        np.testing.assert_array_equal(state[f"{name}.weight"].numpy(), np.vstack([values["Wemb"], np.zeros(THIN)]))
    network = loaded.network
    assert network.get_output_embeddings().weight is network.get_input_embeddings().weight
    source, target = [3, 7, 8, 0], [None, 5, 2, 9]
    ids = torch.tensor([[pad if i is None else i for i in target]])
    with torch.no_grad():
        logits = network(input_ids=torch.tensor([source]), decoder_input_ids=ids).logits[0].numpy()
    np.testing.assert_allclose(logits[:, :pad], student(values, source, target), rtol=1e-4, atol=1e-4)
    assert (logits[:, pad] == -1e4).all(), "what stands for padding would be written"


def test_marians_tokenizer_ends_sentences_and_agrees_with_the_config(tmp_path: Path):
    from transformers import AutoTokenizer

    marian.convert(a_marian_file()[0], a_tokenizer(), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    ids = tokenizer(["good 1", "zz"], padding=True)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids[0]) == ["▁good", "▁", "1", "</s>"]
    assert tokenizer.convert_ids_to_tokens(ids[1]) == ["▁", "<unk>", "</s>", "<pad>"]
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "good 1"
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert (tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id) == (0, 1, len(PIECES))
    assert (config["eos_token_id"], config["pad_token_id"], config["decoder_start_token_id"]) == (0, len(PIECES), len(PIECES))
    assert config["vocab_size"] == len(tokenizer) == len(PIECES) + 1
    sizes = [config[f"{side}_{what}"] for side in ("encoder", "decoder") for what in ("layers", "ffn_dim", "attention_heads")]
    assert sizes == [2, 24, 8, 1, 40, 8]


def test_a_marian_file_is_refused_where_it_is_cut_or_lacks_something(tmp_path: Path):
    data, _ = a_marian_file()
    for length in [*range(0, len(data), 509), len(data) - 1]:
        with pytest.raises(InputError, match="cut off"):
            marian.convert(data[:length], a_tokenizer(), tmp_path)
    for name in ("Wemb", "decoder_l1_rnn_W", "encoder_l1_ffn_W1"):
        with pytest.raises(InputError, match="lacks something"):
            marian.convert(a_marian_file(without=name)[0], a_tokenizer(), tmp_path)
    with pytest.raises(InputError, match=r"version 1 \(found 2\)"):
        marian.convert(a_marian_file(version=2)[0], a_tokenizer(), tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match="other numbers than its model"):
        marian.convert(a_marian_file()[0], a_tokenizer([*PIECES, "more"]), tmp_path)
