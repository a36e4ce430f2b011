"""The flags of fairseq-train and fairseq-generate (0.12.2): which key of a config each becomes, and where that differs.

``FLAGS`` is the table that the docs show and that luthier.interop.fairseq.commands works by.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from luthier.errors import InputError, did_you_mean

Values = Literal["none", "one", "maybe"]

_NO_SCHEDULE = "the schedules are linear, cosine, inverse_sqrt and constant"
_NO_OPTION = "writing has no such option"
_NEW_ONLY = "of a new model; a checkpoint has its own"


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag, or several that say the same.

    Attributes:
        names: as fairseq spells them, the usual one first.
        key: of a config, dotted; empty where none is needed.
        note: what to know of it; for a refused one: why.
        differs: whether the note says that it means something else than for fairseq, or how it counts.
        values: how many follow.
        honoured: else it is named as one that is not.
    """

    names: tuple[str, ...]
    key: str = ""
    note: str = ""
    values: Values = "one"
    differs: bool = False
    honoured: bool = True

    @property
    def name(self) -> str:
        return self.names[0]


def _key(names: str, key: str, note: str = "", values: Values = "one") -> Flag:
    return Flag(tuple(names.split()), key, note, values)


def _other(names: str, key: str, note: str, values: Values = "one") -> Flag:
    return Flag(tuple(names.split()), key, note, values, differs=True)


def _no(names: str, note: str, values: Values = "one") -> Flag:
    return Flag(tuple(names.split()), "", note, values, honoured=False)


FLAGS: tuple[Flag, ...] = (
    _key("--task", "task", "translation and language_modeling"),
    _key("--source-lang -s", "task.source_language"),
    _key("--target-lang -t", "task.target_language"),
    _key("--train-subset", "data.train"),
    _key("--valid-subset", "data.validation"),
    _key("--gen-subset", "data.test"),
    _key("--disable-validation", "data.validation", "", "none"),
    _key("--finetune-from-model", "model"),
    _other("--restore-file", "model", "the weights alone; a run of Luthier goes on with luthier train --resume RUN"),
    _key("--path", "model", "one checkpoint; ensembles are not read"),
    _key("--bpe-codes --sentencepiece-model", "model", "as fairseq:checkpoint.pt?codes=FILE"),
    _key("--arch -a", "model", _NEW_ONLY),
    _key("--encoder-layers", "model.layers", "both sides have as many; " + _NEW_ONLY),
    _key("--decoder-layers", "model.layers", "both sides have as many; " + _NEW_ONLY),
    _key("--encoder-embed-dim", "model.hidden_size", "both sides have one width; " + _NEW_ONLY),
    _key("--decoder-embed-dim", "model.hidden_size", "both sides have one width; " + _NEW_ONLY),
    _key("--encoder-ffn-embed-dim", "model.intermediate_size", "both sides have one width; " + _NEW_ONLY),
    _key("--decoder-ffn-embed-dim", "model.intermediate_size", "both sides have one width; " + _NEW_ONLY),
    _key("--encoder-attention-heads", "model.heads", "both sides have as many; " + _NEW_ONLY),
    _key("--decoder-attention-heads", "model.heads", "both sides have as many; " + _NEW_ONLY),
    _key("--dropout", "model.dropout", _NEW_ONLY),
    _key("--share-all-embeddings", "", "new models share their tables; a checkpoint keeps what it has", "none"),
    _key("--share-decoder-input-output-embed", "", "new models share their tables; a checkpoint keeps what it has", "none"),
    _other("--max-source-positions", "task.max_tokens", "longer texts are cut and counted, not left out"),
    _other("--max-target-positions", "task.max_target_tokens", "longer texts are cut and counted, not left out"),
    _key("--tokens-per-sample", "task.max_tokens"),
    _key("--criterion", "task.label_smoothing", "cross_entropy and label_smoothed_cross_entropy"),
    _other("--label-smoothing", "task.label_smoothing", "spread over all tokens, the right one among them, as torch does"),
    _key("--max-epoch --me", "train.duration", "with --max-update, that counts"),
    _key("--max-update --mu", "train.duration"),
    _other("--max-tokens", "train.batch", "counts the tokens of both sides without padding; fairseq the longer side with it"),
    _key("--batch-size --max-sentences", "train.batch"),
    _other("--update-freq", "train.batch", "multiplies the batch, which is one optimizer step, cut as memory allows"),
    _key("--lr --learning-rate", "train.learning_rate", "the peak"),
    _other("--lr-scheduler", "train.schedule", "fixed is constant, polynomial_decay is linear"),
    _other("--warmup-updates", "train.warmup", "in optimizer steps, as there"),
    _other("--total-num-update", "train.schedule", "linear and cosine end with the run"),
    _other("--optimizer", "train.optimizer", "adam is adamw: fairseq's Adam takes weight decay apart too"),
    _other("--weight-decay --wd", "train.weight_decay", "not on biases, norms and embeddings"),
    _key("--clip-norm", "train.max_grad_norm", "0 is no limit"),
    _other("--fp16 --memory-efficient-fp16 --amp", "train.precision", "auto: bfloat16 where there is hardware for it", "none"),
    _key("--bf16 --memory-efficient-bf16", "train.precision", "", "none"),
    _key("--checkpoint-activations", "train.gradient_checkpointing", "", "none"),
    _key("--seed", "train.seed", "other random numbers than fairseq's"),
    _key("--cpu", "device", "", "none"),
    _other("--save-dir", "output", "a new folder; a run that stopped goes on with luthier train --resume RUN"),
    _key("--save-interval", "train.save_every"),
    _key("--save-interval-updates", "train.save_every"),
    _key("--validate-interval", "train.evaluate_every"),
    _key("--validate-interval-updates", "train.evaluate_every"),
    _key("--keep-last-epochs --keep-interval-updates", "train.keep", "the best one is kept as well"),
    _key("--patience", "train.patience", "in evaluations, as there"),
    _key("--tensorboard-logdir", "loggers", "written into the run's folder"),
    _key("--beam", "generation.num_beams"),
    _key("--lenpen", "generation.length_penalty"),
    _key("--max-len-b", "generation.max_new_tokens"),
    _key("--sampling", "generation.temperature", "1 unless --temperature says another", "none"),
    _key("--sampling-topk", "generation.top_k"),
    _key("--sampling-topp", "generation.top_p"),
    _key("--temperature", "generation.temperature", "with --sampling; beam search has none here"),
    _key("--eval-bleu-args", "generation", "beam, lenpen and max_len_b of it; without max_len_a"),
    _key("--remove-bpe --post-process --eval-bleu-remove-bpe", "", "always: text is put together for scores", "maybe"),
    _key("--eval-bleu --eval-bleu-print-samples --sacrebleu", "", "BLEU and chrF are measured at the end of every run", "none"),
    _key("--scoring", "", "BLEU and chrF are measured at the end of every run"),
    _key("--bpe", "", "the kind of codes is told by their content"),
    _key("--left-pad-source --left-pad-target", "", "there is no padding", "maybe"),
    _key("--skip-invalid-size-inputs-valid-test --no-epoch-checkpoints --no-last-checkpoints --reset-optimizer "
         "--reset-dataloader --reset-lr-scheduler --reset-meters", "", "so it is here", "none"),
    _key("--no-progress-bar --quiet --load-alignments --print-alignment --memory-efficient --find-unused-parameters "
         "--fast-stat-sync --disable-iterator-cache", "", "changes nothing in the result", "none"),
    _key("--log-format --log-interval --log-file --num-workers --ddp-backend --distributed-port --distributed-init-method "
         "--distributed-backend --fp16-init-scale --fp16-scale-window --fp16-scale-tolerance --threshold-loss-scale "
         "--min-loss-scale --dataset-impl --required-batch-size-multiple --max-tokens-valid --batch-size-valid "
         "--data-buffer-size --max-sentences-valid --device-id --local_rank --user-dir "
         "--empty-cache-freq --all-gather-list-size --bucket-cap-mb --upsample-primary --results-path --buffer-size", "",
         "changes nothing in the result"),
    _no("--adam-betas", "they are 0.9 and 0.999"),
    _no("--adam-eps", "it is 1e-8"),
    _no("--warmup-init-lr", "the rate begins at 0"),
    _no("--stop-min-lr --min-lr", "a run ends after its duration"),
    _no("--end-learning-rate --power --lr-shrink --lr-period-updates --t-mult --force-anneal --fa --lr-patience --lr-threshold "
        "--decay-steps --hold-steps --phase-ratio --init-lr-scale --final-lr-scale", _NO_SCHEDULE),
    _no("--attention-dropout --activation-dropout --relu-dropout --encoder-layerdrop --decoder-layerdrop "
        "--adaptive-softmax-dropout", "there is one dropout, and a checkpoint keeps its own"),
    _no("--encoder-normalize-before --decoder-normalize-before --encoder-learned-pos --decoder-learned-pos "
        "--layernorm-embedding --no-scale-embedding --no-token-positional-embeddings --adaptive-input "
        "--tie-adaptive-weights --no-cross-attention --cross-self-attention --no-decoder-final-norm",
        "new models have one form; a checkpoint keeps its own", "none"),
    _no("--activation-fn --adaptive-softmax-cutoff --adaptive-input-cutoff --decoder-input-dim --decoder-output-dim "
        "--encoder-embed-path --decoder-embed-path", "new models have one form; a checkpoint keeps its own"),
    _no("--keep-best-checkpoints", "the best checkpoint alone is kept beside the last ones"),
    _no("--best-checkpoint-metric", "the best checkpoint is the one with the least validation loss"),
    _no("--maximize-best-checkpoint-metric", "the best checkpoint is the one with the least validation loss", "none"),
    _no("--no-save", "checkpoints are always kept", "none"),
    _no("--distributed-world-size --nprocs-per-node", "this config runs on one device: multiply train.batch yourself"),
    _no("--curriculum", "the order is drawn anew for each epoch"),
    _no("--sample-break-mode", "a document is a row, cut into windows of task.max_tokens"),
    _no("--wandb-project --aim-repo", "the logger there is: tensorboard"),
    _no("--sentence-avg", "the loss is a mean over tokens", "none"),
    _no("--min-len --unkpen --no-repeat-ngram-size --prefix-size --diverse-beam-groups --diverse-beam-strength "
        "--diversity-rate --iter-decode-max-iter --lm-path --lm-weight --replace-unk --constraints", _NO_OPTION, "maybe"),
    _no("--no-early-stop --unnormalized --match-source-len --score-reference --print-step", _NO_OPTION, "none"),
    _no("--max-len-a", "a text ends at the task's limit, some three times the source's tokens"),
    _no("--nbest", "one text is written for each source"),
    _no("--tokenizer --eval-bleu-detok --eval-tokenized-bleu --eval-bleu-detok-args --moses-source-lang --moses-target-lang",
        "text is taken as it stands: tokenise it as the model's was", "maybe"),
    _no("--model-overrides --truncate-source --report-accuracy --ignore-prefix-size --num-batch-buckets --combine-val",
        "there is nothing of the kind", "maybe"),
)  # fmt: skip

_BY_NAME: Mapping[str, Flag] = {name: flag for flag in FLAGS for name in flag.names}
_PROGRAM = re.compile(
    r"^(?:.*/)?(?:fairseq[-_](?:cli[./])?)?(train|generate|interactive|hydra[-_]train|preprocess|eval[-_]lm|score|validate)(?:\.py)?$"
)
_ENDS = {"|", "||", "&&", ";", "&", ">", ">>", "2>&1", "&>", "2>", "<"}


@dataclass(slots=True)
class Given:
    """What a command line says.

    Attributes:
        program: train, generate ..., or empty.
        flags: each flag under its first name, with its text; empty for one without a value.
        spelled: how each of them was written.
        places: what stands without a flag: the data.
        unknown: flags that fairseq's common ones are not, with what to do.
    """

    program: str = ""
    flags: dict[str, str] = field(default_factory=dict)
    spelled: dict[str, str] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def flag_named(name: str) -> Flag:
    """Return the flag of a name in ``FLAGS``."""
    return _BY_NAME[name]


def parse(command: str) -> Given:
    """Read a command line of fairseq as a shell would: with quotes, comments and lines that go on after a backslash.

    Raises:
        InputError: a quote is not closed, a value is missing, or it is another program.
    """
    try:
        words = shlex.split(re.sub(r"\\\r?\n", " ", command), comments=True)
    except ValueError as error:
        raise InputError(f"the command cannot be read ({str(error).lower()})", fix="Close its quotes.") from error
    given = Given()
    rest = _without_program(words, given)
    while rest:
        word = rest.pop(0)
        if word in _ENDS:
            break
        if not word.startswith("-") or word == "-":
            given.places.append(word)
            continue
        name, equals, value = word.partition("=")
        flag = _BY_NAME.get(name)
        if flag is None:
            said = [value] if equals else list(_values(rest))
            del rest[: 0 if equals else len(said)]
            given.unknown.append(f"{' '.join([name, *said])}: there is no such flag here. {_near(name)}".strip())
            continue
        if not equals and flag.values == "one":
            if not rest:
                raise InputError(f"{name} has no value", fix="Give the whole command.")
            value = rest.pop(0)
        elif not equals and flag.values == "maybe":
            value = rest.pop(0) if rest and not rest[0].startswith("-") and rest[0] not in _ENDS else ""
        given.flags[flag.name if flag.key else name] = value
        given.spelled[flag.name if flag.key else name] = name
    return given


def _without_program(words: Sequence[str], given: Given) -> list[str]:
    """Leave out what stands before the flags: settings of the environment, the interpreter, the program."""
    for number, word in enumerate(words):
        match = _PROGRAM.match(word)
        if match:
            given.program = match.group(1).replace("_", "-")
            if given.program not in ("train", "generate", "interactive"):
                fix = "Give the flags of fairseq-train, fairseq-generate or fairseq-interactive."
                if given.program == "preprocess":
                    fix = "It writes data: luthier fairseq-preprocess takes its flags."
                raise InputError(f"{word} takes other flags", fix=fix)
            return list(words[number + 1 :])
        if word.startswith("--") or not (re.match(r"^\w+=|^-", word) or "python" in word or word in ("srun", "env", "nohup")):
            break
    return list(words)


def _values(rest: Sequence[str]) -> Iterator[str]:
    """Yield the words up to the next flag: at most one, since the next may be the data."""
    if rest and not rest[0].startswith("-") and rest[0] not in _ENDS:
        yield rest[0]


def _near(name: str) -> str:
    said = did_you_mean(name, _BY_NAME)
    return said if said.startswith("Did") else ""
