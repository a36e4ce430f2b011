"""simpletransformers' side of ``benchmarks.peers``: runs in an environment of its own, without Luthier.

    python peer_simpletransformers.py ROWS.json MODEL OUT STEPS BATCH RATE MODE

Prints one JSON object: processor seconds of each step. The rows are those of the steps; it shuffles them.
"""

import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas
from simpletransformers.ner import NERArgs, NERModel
from torch.optim.optimizer import register_optimizer_step_post_hook


def main() -> None:
    """Train one epoch, which is the steps."""
    rows, model, out, _, batch, rate, _ = sys.argv[1:]
    sentences = json.loads(Path(rows).read_text(encoding="utf-8"))
    words = [
        (number, word, tag) for number, row in enumerate(sentences) for word, tag in zip(row["words"], row["tags"], strict=True)
    ]
    settings = NERArgs()
    settings.train_batch_size, settings.learning_rate, settings.max_seq_length = int(batch), float(rate), 128
    settings.output_dir, settings.cache_dir, settings.no_save, settings.no_cache = out, f"{out}-cache", True, True
    # It would ask for a GPU's number format, and for processes of its own.
    settings.fp16 = settings.use_multiprocessing = settings.use_multiprocessing_for_evaluation = False
    settings.silent = settings.overwrite_output_dir = True
    tags = sorted({tag for _, _, tag in words})
    marks: list[float] = []
    register_optimizer_step_post_hook(lambda *_: marks.append(time.process_time()))
    made: Any = NERModel("bert", model, labels=tags, use_cuda=False, args=settings)
    made.train_model(pandas.DataFrame(words, columns=["sentence_id", "words", "labels"]))
    print(json.dumps({"seconds": [after - before for before, after in itertools.pairwise(marks)]}))


if __name__ == "__main__":
    main()
