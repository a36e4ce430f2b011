"""Runs inside the environment of fairseq 0.12.2: writes small random models, and what fairseq computes with them.

python fairseq_models.py make FOLDER
    each kind gets a folder: checkpoint.pt, dictionaries, and expected.json with token ids and log-probabilities
python fairseq_models.py again FOLDER EXPECTED
    computes the same for another checkpoint.pt, whose dictionaries lie beside it
"""

import json
import sys
from argparse import Namespace
from pathlib import Path

import torch
from fairseq import checkpoint_utils, options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

SMALL = (
    "--encoder-embed-dim 16 --encoder-ffn-embed-dim 24 --encoder-layers 3 --encoder-attention-heads 2 "
    "--decoder-embed-dim 16 --decoder-ffn-embed-dim 20 --decoder-layers 2 --decoder-attention-heads 4"
)
SMALL_LM = (
    "--decoder-embed-dim 16 --decoder-input-dim 16 --decoder-output-dim 16 "
    "--decoder-ffn-embed-dim 24 --decoder-layers 2 --decoder-attention-heads 2 --tokens-per-sample 64"
)
BEFORE = "--encoder-normalize-before --decoder-normalize-before"
LEARNED = "--encoder-learned-pos --decoder-learned-pos --max-source-positions 40 --max-target-positions 50"
KINDS = {
    "post-norm-shared": (True, f"{SMALL} --share-all-embeddings"),
    "post-norm-separate": (False, SMALL),
    "post-norm-output-shared": (False, f"{SMALL} --share-decoder-input-output-embed"),
    "pre-norm": (False, f"{SMALL} {BEFORE} --share-decoder-input-output-embed"),
    "pre-norm-shared-gelu": (True, f"{SMALL} {BEFORE} --share-all-embeddings --activation-fn gelu"),
    "pre-norm-gelu-accurate": (False, f"{SMALL} {BEFORE} --activation-fn gelu_accurate"),
    "learned": (False, f"{SMALL} {LEARNED}"),
    "pre-norm-learned-unscaled": (True, f"{SMALL} {BEFORE} {LEARNED} --share-all-embeddings --no-scale-embedding"),
    "embedding-norm": (True, f"{SMALL} --share-all-embeddings --layernorm-embedding"),
    "encoder-pre-norm-alone": (False, f"{SMALL} --encoder-normalize-before"),
    "lm": (None, f"{SMALL_LM} --share-decoder-input-output-embed"),
    "lm-post-norm-separate": (None, SMALL_LM),
    "lm-pre-norm-learned": (None, f"{SMALL_LM} --decoder-normalize-before --decoder-learned-pos --activation-fn gelu"),
    "lm-no-final-norm": (None, f"{SMALL_LM} --decoder-normalize-before --no-decoder-final-norm"),
}


def write_dictionary(path, words):
    path.write_text("".join(f"{word} {100 - number}\n" for number, word in enumerate(words)), encoding="utf-8")


def build(folder, joined, flags):
    """Return fairseq's settings, task and model."""
    words = [f"w{number}" for number in range(30)]
    if joined is None:
        write_dictionary(folder / "dict.txt", words)
        arguments = [str(folder), "--task", "language_modeling", "--arch", "transformer_lm", *flags.split()]
    else:
        write_dictionary(folder / "dict.aa.txt", words)
        write_dictionary(folder / "dict.bb.txt", words if joined else [f"v{number}" for number in range(23)])
        arguments = [str(folder), "--task", "translation", "-s", "aa", "-t", "bb", "--arch", "transformer", *flags.split()]
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(parser, [*arguments, "--optimizer", "adam", "--max-tokens", "100"])
    config = convert_namespace_to_omegaconf(args)
    task = tasks.setup_task(config.task)
    return args, config, task, task.build_model(config.model)


def expected(model, task, joined):
    """Return ids and the log-probabilities of the next tokens."""
    generator = torch.Generator().manual_seed(5)
    size = len(task.target_dictionary)
    target = torch.cat([torch.tensor([2]), torch.randint(4, size, (9,), generator=generator)])
    with torch.no_grad():
        if joined is None:
            output = model(target[None])
            source = None
        else:
            source = torch.cat([torch.randint(4, len(task.source_dictionary), (7,), generator=generator), torch.tensor([2])])
            output = model(source[None], torch.tensor([len(source)]), target[None])
        logs = model.get_normalized_probs(output, log_probs=True)[0]
    return {"source": None if source is None else source.tolist(), "target": target.tolist(), "logs": logs.tolist()}


def make(out):
    for number, (kind, (joined, flags)) in enumerate(sorted(KINDS.items())):
        folder = out / kind
        folder.mkdir(parents=True)
        torch.manual_seed(number)
        args, config, _, model = build(folder, joined, flags)
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                torch.nn.init.normal_(parameter, 1.0 if "norm" in name and name.endswith("weight") else 0.0, 0.3)
        for name, parameter in model.named_parameters():
            if name.endswith("embed_tokens.weight"):
                parameter.data[1] = 0
        settings = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
        old = number % 2 == 1
        state = {
            "args": Namespace(**vars(args)) if old else None,
            "cfg": None if old else settings,
            "model": model.state_dict(),
            "criterion": None,
            "optimizer_history": [
                {"criterion_name": "", "optimizer_name": "FairseqAdam", "lr_scheduler_state": {}, "num_updates": 1}
            ],
            "task_state": {},
            "extra_state": {"train_iterator": {"epoch": 1, "iterations_in_epoch": 0}},
            "last_optimizer_state": None,
        }
        torch.save(state, str(folder / "checkpoint.pt"))
        compute(folder, joined)
        print(kind)


def compute(folder, joined):
    """Read a checkpoint as fairseq does whenever it translates, so that its fast path is in place, and write expected.json."""
    path = str(folder / "checkpoint.pt")
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task([path], arg_overrides={"data": str(folder)})
    model.eval()
    (folder / "expected.json").write_text(json.dumps(expected(model, task, joined)), encoding="utf-8")


def again(folder, known):
    compute(folder, None if json.loads(known.read_text(encoding="utf-8"))["source"] is None else True)


if __name__ == "__main__":
    {"make": make, "again": again}[sys.argv[1]](*map(Path, sys.argv[2:]))
