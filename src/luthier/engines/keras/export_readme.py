"""The README beside an export to Keras or TensorFlow: what goes in, what comes out, and a snippet that runs there."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from luthier.heads import BinaryCrossEntropy, CausalHead, Head, Seq2SeqHead, SequenceHead, SpanHead, SquaredError, TokenHead

_SEGMENTED = ("bert",)
"""Kinds of models that are told which of two texts a token belongs to."""

_IMPORTS = {
    "file": "import keras\nimport keras_hub  # brings the layers that the file names\nimport numpy as np\n",
    "saved-model": "import numpy as np\nimport tensorflow as tf\n",
}
_OPENED = {
    "file": 'model = keras.saving.load_model("model.keras", compile=False)\n',
    "saved-model": 'model = tf.saved_model.load(".").signatures["serving_default"]\n',
}
_CALLS = {"file": "model(inputs)", "saved-model": 'model(**inputs)["logits"]'}
_SPAN_CALLS = {"file": "model(inputs)", "saved-model": "model(**inputs)"}
_ARRAYS = {"file": 'np.array({}, "int32")', "saved-model": "tf.constant({}, tf.int32)"}

_TASK = 'task = json.load(open("luthier.json", encoding="utf-8"))["task"]\n'
_LABELS = 'labels = json.load(open("luthier.json", encoding="utf-8"))["task"]["labels"]\n'
_TEXTS = 'encoded = tokenizer(["The first text.", "The second one."], padding=True, return_tensors="np")\n<inputs>'
_CLASS = f"""\
{_LABELS}{_TEXTS}logits = np.asarray(<call>)  # [texts, classes]
print([labels[place] for place in logits.argmax(-1)])
"""
_SEVERAL = f"""\
{_TASK}{_TEXTS}limits = np.array(task["thresholds"] or [0.5] * len(task["labels"]))
chosen = 1 / (1 + np.exp(-np.asarray(<call>))) >= limits  # [texts, classes]
print([[label for label, yes in zip(task["labels"], row) if yes] for row in chosen])
"""
_VALUE = f"""\
{_TASK}{_TEXTS}logits = np.asarray(<call>)  # [texts, 1]
print(logits[:, 0] * task["scale"] + task["offset"])
"""
_TAGS = f"""\
{_LABELS}words = "Ada works in Paris .".split()
encoded = tokenizer([words], is_split_into_words=True, return_tensors="np")
<inputs>tags = np.asarray(<call>)[0].argmax(-1)  # one a token; a word has that of its first one
owners = encoded.word_ids(0)
print([(word, labels[tags[owners.index(place)]]) for place, word in enumerate(words)])
"""
_SPANS = """\
question, context = "Who works in Paris?", "Ada works in Paris."
encoded = tokenizer([question], [context], return_offsets_mapping=True, return_tensors="np")
<inputs>found = <call>
inside = np.array([side == 1 for side in encoded.sequence_ids(0)])
starts, ends = (np.where(inside, found[f"{side}_logits"][0], -np.inf) for side in ("start", "end"))
scores = np.where(np.tri(len(starts)).T > 0, np.add.outer(starts, ends), -np.inf)  # no answer ends before it starts
first, last = np.unravel_index(scores.argmax(), scores.shape)
print(context[encoded["offset_mapping"][0, first, 0] : encoded["offset_mapping"][0, last, 1]])
"""
_WRITES = """\
ids = tokenizer.encode("The first words")
for _ in range(20):
<inputs>    ids.append(int(np.asarray(<call>)[0, -1].argmax()))  # [1, tokens, vocabulary]: what follows each token
    if ids[-1] == tokenizer.eos_token_id:
        break
print(tokenizer.decode(ids))
"""
_TRANSLATES = """\
source, written = tokenizer.encode("A text to begin with."), [<start>]
for _ in range(20):
<inputs>    written.append(int(np.asarray(<call>)[0, -1].argmax()))  # [1, tokens, vocabulary]: what follows each token
    if written[-1] == tokenizer.eos_token_id:
        break
print(tokenizer.decode(written, skip_special_tokens=True))
"""

_LEFT_OUT = "The network alone is in it: cutting texts to length, windows over long texts, "
_NOTES: Mapping[type[Head], str] = {
    SequenceHead: _LEFT_OUT + "and what follows the logits are the caller's; labels and thresholds are in `luthier.json`.",
    TokenHead: _LEFT_OUT + "and joining tags to spans are the caller's.",
    SpanHead: _LEFT_OUT + "and the threshold for no answer are the caller's.",
    CausalHead: "It gives the logits of the next token. Sampling, beams, stop texts and caches are not in it; neither is what"
    " the run put around a prompt (a chat template is with the tokenizer: `tokenizer.apply_chat_template`).",
    Seq2SeqHead: "It gives the logits of the next token. Beam search, forced first tokens, length penalties and caches"
    " are not in it.",
}


def snippet(format: str, head: Head, config: Mapping[str, Any]) -> str:
    """Return Python that loads the export from the current folder and uses it.

    Args:
        format: ``file`` or ``saved-model``.
        head: decides what is asked of the model.
        config: of the model, in the hub's terms.
    """
    body = _body(head)
    inputs = {"token_ids": 'encoded["input_ids"]', "padding_mask": 'encoded["attention_mask"]'}
    if config.get("model_type") in _SEGMENTED:
        inputs["segment_ids"] = 'encoded["token_type_ids"]'
    if isinstance(head, CausalHead):
        inputs = {"token_ids": "[ids]", "padding_mask": "[[1] * len(ids)]"}
    elif isinstance(head, Seq2SeqHead):
        sides = (("encoder", "source"), ("decoder", "written"))
        inputs = {f"{side}_token_ids": f"[{name}]" for side, name in sides}
        inputs |= {f"{side}_padding_mask": f"[[1] * len({name})]" for side, name in sides}
    indent = "    " if isinstance(head, CausalHead | Seq2SeqHead) else ""
    lines = "".join(f'{indent}    "{name}": {_ARRAYS[format].format(value)},\n' for name, value in inputs.items())
    call = (_SPAN_CALLS if isinstance(head, SpanHead) else _CALLS)[format]
    body = body.replace("<inputs>", f"{indent}inputs = {{\n{lines}{indent}}}\n").replace("<call>", call)
    body = body.replace("<start>", str(config.get("decoder_start_token_id")))
    if "padding=True" in body and config.get("pad_token_id") is None:
        body = "tokenizer.pad_token = tokenizer.eos_token  # it has none of its own\n" + body
    options = ', padding_side="right"' + (", add_prefix_space=True" if isinstance(head, TokenHead) else "")
    return (
        f"{'import json' + chr(10) * 2 if 'json.' in body else ''}{_IMPORTS[format]}from transformers import AutoTokenizer\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("."{options})\n{_OPENED[format]}{body}'
    )


def readme(format: str, head: Head, config: Mapping[str, Any]) -> str:
    """Return the README of an export; see ``snippet``."""
    what = "`model.keras`" if format == "file" else "This folder, a SavedModel"
    needs = "keras, keras-hub and tensorflow" if format == "file" else "tensorflow"
    pads = config.get("pad_token_id")
    shapes = {
        SequenceHead: "`logits` [batch, classes]",
        TokenHead: "`logits` [batch, length, tags]",
        SpanHead: "`start_logits` and `end_logits` [batch, length]: that the answer starts, or ends, at this token",
    }.get(type(head), "`logits` [batch, length, vocabulary]")
    names = "`encoder_` and `decoder_`, each with `token_ids` and `padding_mask`"
    if not isinstance(head, Seq2SeqHead):
        segmented = config.get("model_type") in _SEGMENTED
        names = "`token_ids`, `padding_mask`" + (
            " and `segment_ids` (0 for the first text, 1 for the second)" if segmented else ""
        )
    title = f"A {config.get('model_type')} model for {'Keras' if format == 'file' else 'TensorFlow'}"
    mask = "0" if pads is None else f"0, with token {pads}"
    paragraphs = [
        f"{what} needs {needs}, and not the toolkit that trained it. The tokenizer's files lie beside it; the snippet below"
        " reads them with transformers.",
        f"Inputs: {names}; int32 [batch, length], any batch and length up to the model's limit. Texts are padded on the right,"
        f" where the mask is {mask}.",
        f"Output: {shapes}; float32, before any softmax.",
        _NOTES[type(head)],
    ]
    text = "\n\n".join(textwrap.fill(paragraph, 100, break_on_hyphens=False) for paragraph in paragraphs)
    return f"# {title}\n\n{text}\n\n```python\n{snippet(format, head, config)}```\n"


def _body(head: Head) -> str:
    if isinstance(head, SequenceHead):
        if isinstance(head.objective, SquaredError):
            return _VALUE
        return _SEVERAL if isinstance(head.objective, BinaryCrossEntropy) else _CLASS
    if isinstance(head, TokenHead):
        return _TAGS
    if isinstance(head, SpanHead):
        return _SPANS
    return _WRITES if isinstance(head, CausalHead) else _TRANSLATES
