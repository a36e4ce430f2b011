"""A real checkpoint of fairseq 0.12.2, held against what fairseq itself computed and wrote with it.

LUTHIER_BENCH_DATA names a folder with fairseq_format/multi30k_fairseq0122: a checkpoint, its text, and fairseq's outputs.
"""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import torch

from luthier.data.features import Feature
from luthier.engines.torch.model import TorchModel
from luthier.generation import GenerationOptions, Writer
from luthier.heads import Seq2SeqHead
from luthier.model_source import resolve_model
from luthier.tasks.sequence_to_sequence import Translation
from luthier.tokenizer import HubTokenizer

DATA = os.environ.get("LUTHIER_BENCH_DATA")
HOME = Path(DATA or "") / "fairseq_format" / "multi30k_fairseq0122" / "original"
pytestmark = pytest.mark.skipif(
    DATA is None or not HOME.is_dir(), reason="LUTHIER_BENCH_DATA names no folder with fairseq_format/multi30k_fairseq0122"
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[TorchModel, HubTokenizer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_CACHE", str(tmp_path_factory.mktemp("cache")))
        folder = resolve_model(f"fairseq:{HOME / 'checkpoint' / 'checkpoint_best.pt'}").folder
    return TorchModel.load(folder, Seq2SeqHead(), device="cpu", precision="float32"), HubTokenizer(folder)


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").removesuffix("\n").split("\n")


def told(path: Path, letter: str) -> list[str]:
    """Return the sentences of one kind of line that fairseq-interactive printed, by number."""
    found = {int(line.split("\t")[0][2:]): line.split("\t")[-1] for line in lines(path) if line.startswith(f"{letter}-")}
    return [found[number] for number in range(len(found))]


def written(loaded: tuple[TorchModel, HubTokenizer], beams: int) -> list[str]:
    """Translate the first 200 sentences of the test split, from text to text."""
    model, tokenizer = loaded
    task = Translation()
    sources = lines(HOME / "text" / "test_2016_flickr.tok.en")[:200]
    examples = [task.parse(task.question(source)) for source in sources]
    features = [
        Feature({"input_ids": feature.arrays["input_ids"]}) for (feature,) in task.encode(examples, tokenizer, gold=False)
    ]
    options = GenerationOptions(max_new_tokens=200, num_beams=beams)
    return [text.text for text in Writer(model, tokenizer, options, ()).write(features)]


def test_log_probabilities_under_teacher_forcing_are_fairseqs(loaded: tuple[TorchModel, HubTokenizer]):
    network = loaded[0].network
    rows = json.loads((HOME / "reference" / "teacher_forced_first50.json").read_text())
    assert len(rows) == 50
    for row in rows:
        with torch.no_grad():
            logits = network(
                input_ids=torch.tensor([row["src_tokens"]]),
                decoder_input_ids=torch.tensor([row["prev_output_tokens"]]),
                use_cache=False,
            ).logits[0]
        logs = logits.log_softmax(-1)
        found = logs.gather(1, torch.tensor(row["target"])[:, None])[:, 0].numpy()
        assert np.abs(found - row["target_logprobs"]).max() < 1e-4
        assert logs.argmax(-1).tolist() == row["argmax"]


def test_text_becomes_the_ids_that_fairseq_read(loaded: tuple[TorchModel, HubTokenizer]):
    tokenizer = loaded[1]
    rows = json.loads((HOME / "reference" / "teacher_forced_first50.json").read_text())
    sources = lines(HOME / "text" / "test_2016_flickr.tok.en")
    targets = lines(HOME / "text" / "test_2016_flickr.tok.fr")
    for row in rows:
        (source,), (target,) = tokenizer.ids_of([sources[row["index"]]]), tokenizer.ids_of([targets[row["index"]]], target=True)
        assert tokenizer.join(source).arrays["input_ids"].tolist() == row["src_tokens"]
        assert [*target.tolist(), 2] == row["target"]


def test_greedy_writing_gives_fairseqs_text_word_for_word(loaded: tuple[TorchModel, HubTokenizer]):
    theirs = [
        f"{text} ".replace("@@ ", "").rstrip()  # as fairseq's --remove-bpe: one text ends inside a word
        for text in told(HOME / "reference" / "interactive_greedy_first200_bpe.txt", "H")
    ]
    assert written(loaded, 1) == theirs


@pytest.mark.slow
def test_beam_search_is_fairseqs(loaded: tuple[TorchModel, HubTokenizer]):
    theirs = told(HOME / "reference" / "interactive_beam5_first200.txt", "H")
    ours = written(loaded, 5)
    gold = [lines(HOME / "text" / "test_2016_flickr.tok.fr")[:200]]
    scores = [sacrebleu.corpus_bleu(texts, gold, tokenize="none", force=True).score for texts in (ours, theirs)]
    assert abs(scores[0] - scores[1]) < 0.1
    assert ours == theirs
