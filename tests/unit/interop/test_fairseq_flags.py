"""Commands of fairseq as configs: what they print loads, and nothing of them is dropped in silence."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from luthier.cli import app
from luthier.config import RunConfig, load_config
from luthier.errors import InputError
from luthier.interop.fairseq.commands import Imported, import_command
from luthier.interop.fairseq.flags import FLAGS, parse
from luthier.interop.fairseq.presets import PRESETS
from luthier.new_model import check_new

IWSLT = r"""
CUDA_VISIBLE_DEVICES=0 fairseq-train \
    data-bin/iwslt14.tokenized.de-en \
    --arch transformer_iwslt_de_en --share-decoder-input-output-embed \
    --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 0.0 \
    --lr 5e-4 --lr-scheduler inverse_sqrt --warmup-updates 4000 \
    --dropout 0.3 --weight-decay 0.0001 \
    --criterion label_smoothed_cross_entropy --label-smoothing 0.1 \
    --max-tokens 4096 --update-freq 2 --max-epoch 30 --patience 5 --seed 7 \
    --eval-bleu-args '{"beam": 5, "max_len_a": 1.2, "max_len_b": 10}' \
    --eval-bleu-detok moses --eval-bleu-remove-bpe --fp16 \
    --best-checkpoint-metric bleu --save-dir checkpoints  # the usual one
"""
DOCS = Path(__file__).parents[3] / "docs" / "fairseq.md"


def loaded(found: Imported, folder: Path) -> RunConfig:
    path = folder / "run.yaml"
    path.write_text(found.yaml, encoding="utf-8")
    return load_config(path)


def refused(found: Imported) -> list[str]:
    return [line.split()[0].rstrip(":") for line in found.refused]


def test_the_usual_command_becomes_a_config_that_loads(tmp_path: Path):
    found = import_command(IWSLT)
    config = loaded(found, tmp_path)
    train = config.train
    assert (str(train.duration), str(train.batch), str(train.warmup)) == ("30 epochs", "8192 tokens", "4000 steps")
    assert (train.learning_rate, train.schedule, train.max_grad_norm, train.weight_decay) == (5e-4, "inverse_sqrt", None, 1e-4)
    assert (train.patience, train.seed, train.precision, config.output) == (5, 7, "auto", "checkpoints")
    assert config.task.options == {"label_smoothing": 0.1}
    assert config.generation.num_beams == 5
    assert config.generation.max_new_tokens is None
    assert config.data.train == "fairseq:data-bin/iwslt14.tokenized.de-en"
    plan, problems = check_new(config.model.options)
    assert not problems
    assert (plan.layers, plan.hidden_size, plan.heads, plan.intermediate_size, plan.dropout) == (6, 512, 4, 1024, 0.3)


def test_what_cannot_be_honoured_is_named_and_nothing_else():
    assert refused(import_command(IWSLT)) == [
        "--adam-betas",
        "--eval-bleu-detok",
        "--best-checkpoint-metric",
        "--eval-bleu-args",
    ]


def test_what_is_meant_in_another_way_is_said_in_a_line_each():
    notes = import_command(IWSLT).notes
    for name in ("--update-freq", "--warmup-updates", "--max-tokens", "--fp16"):
        assert sum(note.startswith(f"{name}: ") for note in notes) == 1
    assert all("\n" not in note for note in notes)


@pytest.mark.parametrize("arch", PRESETS)
def test_every_architecture_is_a_model_that_can_be_made(arch: str, tmp_path: Path):
    config = loaded(import_command(f"--arch {arch} --max-epoch 1"), tmp_path)
    plan, problems = check_new(config.model.options)
    assert not problems
    assert (plan.layers, plan.hidden_size) == (PRESETS[arch].layers, PRESETS[arch].hidden_size)
    assert config.task.name == ("text-generation" if "lm" in arch else "translation")


@pytest.mark.parametrize(
    ("flags", "path", "value"),
    [
        ("--max-tokens 1000 --update-freq '[4]'", "train.batch", "4000 tokens"),
        ("--max-sentences=16 --update-freq 2", "train.batch", "32 examples"),
        ("--max-update 100", "train.duration", "100 steps"),
        ("--lr 0.1,0.05", "train.learning_rate", "0.1"),
        ("--lr-scheduler polynomial_decay --total-num-update 100", "train.schedule", "linear"),
        ("--lr 1", "train.schedule", "constant"),
        ("--lr 1", "train.warmup", "0%"),
        ("--lr-scheduler inverse_sqrt", "train.warmup", "4000 steps"),
        ("--clip-norm 0.1", "train.max_grad_norm", "0.1"),
        ("--bf16", "train.precision", "bfloat16"),
        ("--lr 1", "train.precision", "float32"),
        ("--save-interval 2 --keep-last-epochs 3", "train.save_every", "2 epochs"),
        ("--save-interval 2 --keep-last-epochs 3", "train.keep", "3"),
        ("--save-interval-updates 50", "train.save_every", "50 steps"),
        ("--validate-interval-updates 50", "train.evaluate_every", "50 steps"),
        ("--checkpoint-activations", "train.gradient_checkpointing", "True"),
        ("--cpu", "device", "cpu"),
        ("-s en -t fr", "task.source_language", "en"),
        ("-s en -t fr", "data.train", "fairseq:data-bin?source=en&target=fr"),
        ("--max-source-positions 200", "task.max_tokens", "200"),
        ("--task language_modeling --tokens-per-sample 128", "task.max_tokens", "128"),
        ("--finetune-from-model 'my runs/a.pt'", "model", "fairseq:my runs/a.pt"),
        ("db --restore-file a.pt --bpe-codes c", "model", "fairseq:a.pt?data=db&codes=c"),
        ("--train-subset train2 x", "data.train", "fairseq:x?split=train2"),
        ("fairseq-generate x --gen-subset valid --path a.pt", "data.test", "fairseq:x?split=valid"),
        ("fairseq-generate x --path a.pt", "generation.num_beams", "5"),
        ("python -m fairseq_cli.generate x --path a.pt --beam 3 --lenpen 0.6", "generation.length_penalty", "0.6"),
        ("generate.py x --path a.pt --max-len-b 50", "generation.max_new_tokens", "50"),
        ("--sampling --sampling-topp 0.9 --temperature 0.7 --beam 1", "generation.temperature", "0.7"),
        ("--sampling --sampling-topp 0.9 --temperature 0.7 --beam 1", "generation.top_p", "0.9"),
        ("--tensorboard-logdir x", "loggers", "['tensorboard']"),
    ],
)
def test_a_flag_becomes_its_key(flags: str, path: str, value: str, tmp_path: Path):
    flat = loaded(import_command(flags), tmp_path).flat()
    assert flat[path] == value


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        ("--max-tokenz 4", ["--max-tokenz"]),
        ("--optimizer sgd --lr-scheduler tri_stage", ["--optimizer", "--lr-scheduler"]),
        ("--adam-betas '(0.9, 0.999)' --adam-eps 1e-8 --warmup-init-lr 0 --power 1.0", []),
        ("--warmup-init-lr 1e-7 --attention-dropout 0.1", ["--warmup-init-lr", "--attention-dropout"]),
        ("--encoder-layers 6 --decoder-layers 2", ["--decoder-layers"]),
        ("--arch lstm --task multilingual_translation", ["--task", "--arch"]),
        ("--arch transformer --dropout 0.2 --restore-file a.pt", ["--arch", "--dropout"]),
        ("--max-epoch 2 --max-update 10", ["--max-epoch"]),
        ("--max-tokens 100 --batch-size 2", ["--batch-size"]),
        ("a:b --max-epoch 1", ["a:b"]),
        ("--label-smoothing 0.1", ["--label-smoothing"]),
        ("--no-progress-bar --log-interval 10 --share-all-embeddings --max-tokens-valid 3", []),
        ("x --max-epoch 1 2>&1 | tee log", []),
    ],
)
def test_what_is_not_honoured(flags: str, names: list[str], tmp_path: Path):
    found = import_command(flags)
    assert refused(found) == names
    loaded(found, tmp_path)


def test_a_near_name_is_suggested():
    assert 'Did you mean "--max-tokens"?' in import_command("--max-tokenz 4").refused[0]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--arch 'transformer", "quotes"),
        ("--max-tokens", "--max-tokens has no value"),
        ("--max-tokens many", 'found "many", expected a number'),
        ("--lr nan", "expected a number"),
        ("fairseq-preprocess --trainpref x", "luthier fairseq-preprocess takes its flags"),
        ("--eval-bleu-args '[1]'", "JSON object"),
    ],
)
def test_a_command_that_cannot_be_read_is_refused(command: str, said: str):
    with pytest.raises(InputError, match=re.escape(said)):
        import_command(command)


def test_every_flag_stands_once_and_is_read():
    names = [name for flag in FLAGS for name in flag.names]
    assert len(names) == len(set(names))
    for flag in FLAGS:
        assert flag.honoured or flag.note
        value = "" if flag.values == "none" else "1"
        for name in flag.names:
            assert parse(f"{name} {value} --cpu").unknown == []


def test_the_command_prints_yaml_and_says_the_rest_on_stderr(tmp_path: Path):
    done = CliRunner().invoke(app, ["import-fairseq-args", "--arch transformer --max-tokens 4096 --adam-betas '(0.9,0.98)'"])
    assert done.exit_code == 0
    (tmp_path / "run.yaml").write_text(done.stdout, encoding="utf-8")
    assert str(load_config(tmp_path / "run.yaml").train.batch) == "4096 tokens"
    assert "not honoured: --adam-betas (0.9,0.98): " in done.stderr
    assert "note: --max-tokens: " in done.stderr


@pytest.mark.parametrize(
    "words", [["-a transformer -s en --nbest 3 --beam 5"], ["-a", "transformer", "-s", "en", "--nbest", "3"]]
)
def test_the_json_document_holds_all_of_it(words: list[str]):
    done = CliRunner().invoke(app, ["import-fairseq-args", "--json", *words])
    values = json.loads(done.stdout)
    assert values["config"]["task"]["source_language"] == "en"
    assert values["config"]["model"]["layers"] == 6
    assert [line.split()[0] for line in values["not_honoured"]] == ["--nbest"]
    assert done.stderr == ""


def lines(first: str) -> list[list[str]]:
    text = DOCS.read_text(encoding="utf-8").splitlines()
    start = next(number for number, line in enumerate(text) if line.startswith(f"| {first} |"))
    found = []
    for line in text[start + 2 :]:
        if not line.startswith("|"):
            break
        found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def test_the_tables_of_the_docs_are_those_of_the_code():
    named = {flag: ", ".join(f"`{name}`" for name in flag.names) for flag in FLAGS}
    honoured = [[named[flag], f"`{flag.key}`" if flag.key else "-", flag.note or "-"] for flag in FLAGS if flag.honoured]
    assert lines("flag") == honoured
    assert lines("flag that is not honoured") == [[named[flag], flag.note] for flag in FLAGS if not flag.honoured]


def test_every_key_of_the_table_is_one_of_a_config():
    sections = {"task", "model", "data", "train", "generation"}
    for flag in FLAGS:
        top, _, rest = flag.key.partition(".")
        if not top:
            continue
        assert top in RunConfig.model_fields
        if rest and top not in ("task", "model"):
            assert top in sections
            assert rest in RunConfig.model_fields[top].annotation.model_fields
