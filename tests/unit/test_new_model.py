"""New models: their vocabularies, their weights, and the way from a config to a run with one."""

import json
from pathlib import Path

import numpy as np
import pytest

import luthier
from luthier.assembly import assemble
from luthier.config import load_config
from luthier.errors import ConfigError, InputError
from luthier.new_model import check_new, new, texts_of
from luthier.tokenizer import HubTokenizer

SENTENCES = [
    ("Two young men walk through the park.", "Deux jeunes hommes marchent dans le parc."),
    ("A woman reads a book near the window.", "Une femme lit un livre près de la fenêtre."),
    ("The dog runs after a red ball.", "Le chien court après une balle rouge."),
    ("Children play in the snow; it is cold.", "Des enfants jouent dans la neige ; il fait froid."),
    ("A man in a blue shirt sings.", "Un homme en chemise bleue chante."),
    ("The market opens at nine o'clock.", "Le marché ouvre à neuf heures."),
]
CHINESE = ["今天天气很好,我们去公园散步。", "他昨天买了一本新书。", "市场早上九点开门。"]
KINDS = {"marian": "Seq2SeqLM", "bart": "Seq2SeqLM", "t5": "Seq2SeqLM", "llama": "CausalLM", "gpt2": "CausalLM", "bert": ""}
SMALL = {"layers": 1, "hidden_size": 16, "heads": 2, "max_positions": 48, "vocabulary": 300}
ENCODER_DECODERS = ["marian", "bart", "t5"]


def made(folder: Path, *, texts=None, seed: int = 0, **options) -> Path:
    new(**{**SMALL, **options}).make(folder, texts_of(SENTENCES) if texts is None else iter(texts), seed)
    return folder


def rows(count: int = 24) -> list[dict[str, str]]:
    return [{"source": source, "target": target} for source, target in SENTENCES * (count // len(SENTENCES))]


def plan(**changes) -> dict:
    model = {"name": "new", "architecture": "marian", **SMALL, **changes.pop("model", {})}
    values = {
        "task": {"name": "translation", "source_language": "en", "target_language": "fr"},
        "model": model,
        "data": {"train": rows(), "test": rows(6)},
        "train": {"duration": "2 steps", "batch": "8 examples", "learning_rate": 1e-3, "precision": "float32"},
        "generation": {"max_new_tokens": 8, "num_beams": 1},
    }
    return {**values, **changes}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.mark.parametrize("architecture", KINDS)
@pytest.mark.parametrize("tokenizer", ["sentencepiece", "bpe"])
def test_plain_transformers_loads_what_was_made(tmp_path: Path, architecture: str, tokenizer: str):
    import torch
    import transformers

    folder = made(tmp_path / "model", architecture=architecture, tokenizer=tokenizer, vocabulary=400)
    network = getattr(transformers, f"AutoModel{'For' if KINDS[architecture] else ''}{KINDS[architecture]}").from_pretrained(
        str(folder), local_files_only=True
    )
    tokenizer_ = transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    config = network.config
    assert config.vocab_size == len(tokenizer_)
    assert tokenizer_.pad_token_id == 0
    assert config.pad_token_id == (None if architecture == "llama" else 0)
    if architecture != "bert":
        assert config.eos_token_id == tokenizer_.eos_token_id
    encoded = tokenizer_("The dog runs.", return_tensors="pt")
    assert tokenizer_.decode(encoded["input_ids"][0], skip_special_tokens=True) == "The dog runs."
    given = {"decoder_input_ids": torch.zeros(1, 2, dtype=torch.long)} if config.is_encoder_decoder else {}
    with torch.no_grad():
        found = network(**encoded, **given)
    width = found.logits.shape[-1] if KINDS[architecture] else found.last_hidden_state.shape[-1]
    assert width == (config.vocab_size if KINDS[architecture] else 16)


@pytest.mark.parametrize("architecture", ENCODER_DECODERS)
def test_an_encoder_decoder_s_texts_end_with_its_end_token(tmp_path: Path, architecture: str):
    tokenizer = HubTokenizer(made(tmp_path / "model", architecture=architecture))
    (ids,) = tokenizer.ids_of(["A red dog."])
    assert tokenizer.join(ids).arrays["input_ids"].tolist() == [*ids.tolist(), 1]
    before, after = tokenizer.target_affixes
    assert (before.tolist(), after.tolist()) == ([], [1])


def test_an_encoder_s_texts_stand_between_its_marks(tmp_path: Path):
    tokenizer = HubTokenizer(made(tmp_path / "model", architecture="bert"))
    first, second = tokenizer.ids_of(["A red dog.", "A blue book."])
    joined = tokenizer.join(first, second).arrays
    assert joined["input_ids"].tolist() == [2, *first.tolist(), 3, *second.tolist(), 3]
    assert joined["token_type_ids"].tolist() == [0] * (len(first) + 2) + [1] * (len(second) + 1)


def test_a_decoder_s_documents_stand_between_ends(tmp_path: Path):
    tokenizer = HubTokenizer(made(tmp_path / "model", architecture="llama", vocabulary=400))
    assert [part.tolist() for part in tokenizer.document_affixes] == [[0], [0]]
    assert not set(tokenizer.ids_of(["A red dog."])[0].tolist()) & {0, 1}


@pytest.mark.parametrize("text", [*(text for pair in SENTENCES for text in pair), *CHINESE, "A red  dog ; 九."])
def test_pieces_give_the_text_back(tmp_path: Path, text: str):
    import unicodedata

    tokenizer = HubTokenizer(made(tmp_path / "model", architecture="marian", texts=[*texts_of(SENTENCES), *CHINESE]))
    assert tokenizer.decode(tokenizer.ids_of([text])[0]) == unicodedata.normalize("NFKC", text)


@pytest.mark.parametrize("text", ["naïve ﬁsh", "好的,谢谢", "🙂 no  such\ttext\nin training", " leading"])
def test_merged_bytes_give_any_text_back(tmp_path: Path, text: str):
    tokenizer = HubTokenizer(made(tmp_path / "model", architecture="marian", tokenizer="bpe"))
    assert tokenizer.decode(tokenizer.ids_of([text])[0]) == text


@pytest.mark.parametrize("tokenizer", ["sentencepiece", "bpe"])
def test_the_same_texts_and_seed_give_the_same_bytes(tmp_path: Path, tokenizer: str):
    # Few rows beside a large vocabulary, and characters that are in no piece: where chance showed before it was settled.
    texts = [*texts_of(SENTENCES), *CHINESE, "xylophone quiz", "JYQ!"]
    folders = [
        made(tmp_path / str(place), architecture="marian", texts=texts, tokenizer=tokenizer, seed=3) for place in range(8)
    ]
    first = contents(folders[0])
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= set(first)
    assert all(contents(folder) == first for folder in folders[1:])
    other = contents(made(tmp_path / "other", architecture="marian", texts=texts, tokenizer=tokenizer, seed=4))
    assert other["tokenizer.json"] == first["tokenizer.json"]
    assert other["model.safetensors"] != first["model.safetensors"]


def test_making_a_model_leaves_the_random_numbers_of_others_alone(tmp_path: Path):
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3).tolist()
    torch.manual_seed(5)
    made(tmp_path / "model", architecture="marian")
    assert torch.rand(3).tolist() == expected


@pytest.mark.parametrize("architecture", ["marian", "bart"])
def test_a_translator_begins_wide(tmp_path: Path, architecture: str):
    from safetensors.numpy import load_file

    sizes = {"architecture": architecture, "hidden_size": 64, "intermediate_size": 128}
    weights = load_file(made(tmp_path / "model", **sizes) / "model.safetensors")
    embeddings = weights["model.shared.weight"]
    assert not embeddings[0].any()
    assert embeddings[1:].std() == pytest.approx(64**-0.5, rel=0.05)
    inner = weights["model.encoder.layers.0.fc1.weight"]
    assert np.abs(inner).max() == pytest.approx((6 / (64 + 128)) ** 0.5, rel=0.01)  # Glorot and Bengio (2010)
    assert inner.std() == pytest.approx((2 / (64 + 128)) ** 0.5, rel=0.05)


@pytest.mark.parametrize(("architecture", "name"), [("llama", "model.embed_tokens.weight"), ("gpt2", "transformer.wte.weight")])
def test_the_token_that_begins_a_decoder_s_documents_is_learned_like_any_other(tmp_path: Path, architecture: str, name: str):
    import torch
    import transformers

    folder = made(tmp_path / "model", architecture=architecture, vocabulary=400)
    network = transformers.AutoModelForCausalLM.from_pretrained(str(folder), local_files_only=True)
    table = dict(network.named_parameters())[name]
    assert bool(table[0].any())
    assert network.get_input_embeddings().padding_idx is None
    network.get_input_embeddings()(torch.tensor([0])).sum().backward()
    assert bool(table.grad[0].any())


def test_too_many_characters_for_a_vocabulary_are_an_error_that_says_what_to_do(tmp_path: Path):
    many = ["".join(chr(0x4E00 + number) for number in range(start, start + 40)) for start in range(0, 400, 40)]
    with pytest.raises(InputError, match=r"model\.vocabulary: 300 tokens are too few") as error:
        made(tmp_path / "model", architecture="marian", texts=many)
    assert "bpe" in str(error.value)
    tokenizer = HubTokenizer(made(tmp_path / "bytes", architecture="marian", tokenizer="bpe", texts=many))
    assert tokenizer.decode(tokenizer.ids_of([many[3]])[0]) == many[3]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "model.architecture: there is no value. It is required."),
        ({"architecture": "marian", "layer": 3}, "model.layer: there is no such option."),
        ({"architecture": "maryan"}, "model.architecture: found 'maryan'"),
        ({"architecture": "marian", "hidden_size": 100, "heads": 8}, "hidden_size is 100; it must be a multiple of"),
        ({"architecture": "marian", "layers": 0}, "layers is 0; it must be 1 or more"),
        ({"architecture": "marian", "intermediate_size": 0}, "intermediate_size is 0; it must be 1 or more"),
        ({"architecture": "marian", "dropout": 1.0}, "dropout is 1.0; it must be from 0 to below 1"),
        ({"architecture": "llama", "dropout": 0.1}, "dropout is 0.1; a llama has none"),
        ({"architecture": "gpt2", "vocabulary": 100}, "vocabulary is 100; bpe for a gpt2 begins with 258 tokens"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, problem: str):
    found, problems = check_new(options)
    assert found is None
    assert len(problems) == 1
    assert problem in problems[0]


def test_all_problems_of_a_new_model_come_at_once():
    config = load_config(None, values=plan(model={"layers": 0}, method={"name": "lora", "rank": 4}))
    with pytest.raises(ConfigError) as error:
        assemble(config)
    assert "model: layers is 0" in str(error.value)
    assert 'method: "lora" leaves weights as they are' in str(error.value)


def test_options_for_a_model_that_has_its_own_sizes_are_refused():
    with pytest.raises(ConfigError, match="name: new"):
        load_config(None, values=plan() | {"model": {"name": "minilm", "layers": 3}})


def test_a_config_says_every_size_and_reads_as_it_was_written():
    assembly = assemble(load_config(None, values=plan()))
    written = assembly.config.to_yaml()
    again = load_config(None, values={**plan(), "model": assembly.config.model})
    assert again.model == assembly.config.model
    assert "intermediate_size: 64" in written
    assert "dropout: 0.1" in written
    assert "tokenizer: sentencepiece" in written
    assert assembly.config.flat()["model.architecture"] == "marian"


def test_the_longest_sequence_is_the_new_model_s():
    assert assemble(load_config(None, values=plan())).task.max_tokens == 48
    assert assemble(load_config(None, values=plan(model={"max_positions": 2000}))).task.max_tokens == 512
    long = plan() | {"task": {"name": "translation", "max_tokens": 64}}
    with pytest.raises(InputError, match=r"task\.max_tokens: found 64; this model takes at most 48 tokens"):
        assemble(load_config(None, values=long))


def test_the_vocabulary_comes_from_the_training_split_alone(tmp_path: Path):
    values = plan()
    values["data"]["test"] = [{"source": "Ж shows up here.", "target": "Ж est ici."}]
    assembly = assemble(load_config(None, values=values))
    prepared = assembly.prepare(tmp_path)
    tokens = json.loads((assembly.source.folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    pieces = {piece for piece, _ in tokens}
    assert "Ж" not in "".join(pieces)
    assert {"ê", "è"} <= set("".join(pieces))
    features = prepared.splits["test"].features
    assert features is not None
    assert 2 in features[0].arrays["input_ids"]  # unknown


def test_too_little_text_for_the_vocabulary_is_said(tmp_path: Path):
    assembly = assemble(load_config(None, values=plan(model={"vocabulary": 8000})))
    prepared = assembly.prepare(tmp_path)
    size = json.loads((assembly.source.folder / "config.json").read_text(encoding="utf-8"))["vocab_size"]
    assert 50 < size < 1000
    assert f"the training split is enough for a vocabulary of {size} tokens, not 8000." in prepared.notes
    enough = assemble(load_config(None, values=plan(model={"vocabulary": 60}))).prepare(tmp_path / "enough")
    assert not any("vocabulary" in note for note in enough.notes)


def test_an_interrupted_run_goes_on_with_the_model_that_it_made(tmp_path: Path):
    folder = tmp_path / "new_model"
    first = assemble(load_config(None, values=plan()))
    first.prepare(tmp_path / "one", new_model=folder)
    before = contents(folder)
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    second = assemble(load_config(None, values=plan()))
    second.prepare(tmp_path / "two", new_model=folder)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    assert contents(folder) == before
    assert second.source.folder == folder


RUNS = {
    "marian": ("translation", rows(), {}),
    "bart": ("translation", rows(), {}),
    "t5": ("translation", rows(), {}),
    "llama": ("text-generation", [{"text": f"{a} {b}"} for a, b in SENTENCES * 2], {"vocabulary": 300}),
    "gpt2": ("text-generation", [{"prompt": a, "response": b} for a, b in SENTENCES * 2], {"vocabulary": 300}),
    "bert": (
        "text-classification",
        [{"text": t, "label": n} for pair in SENTENCES for t, n in zip(pair, "ef", strict=True)],
        {},
    ),
}


@pytest.mark.parametrize("architecture", RUNS)
def test_a_new_model_trains_and_is_used_like_any_other(tmp_path: Path, architecture: str):
    task, data, sizes = RUNS[architecture]
    values = plan(model={"architecture": architecture, **sizes}) | {"task": task, "data": {"train": data, "test": data[:4]}}
    run = luthier.train(values, output=str(tmp_path / "run"))
    assert run.metrics["test"]
    assert not (run.folder / "new_model").exists()
    model = luthier.load(run.folder)
    assert model.source.task is not None
    (prediction,) = model.predict(["The dog runs."])
    assert prediction.keys() & {"text", "label"}


def test_two_runs_of_one_config_end_with_the_same_bytes(tmp_path: Path):
    first, second = (luthier.train(plan(), output=str(tmp_path / name)) for name in ("one", "two"))
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        assert (first.folder / "model" / name).read_bytes() == (second.folder / "model" / name).read_bytes()
