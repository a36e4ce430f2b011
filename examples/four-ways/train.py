"""Tune a model for question-answering: plain PyTorch and transformers.

Written by Luthier from the run medical-questions.
It redoes that without Luthier: the same rows in the same order (the .jsonl files beside this one), the same steps,
the same scores up to rounding and, where there is dropout, chance.

    python train.py [MODEL]
"""

import itertools
import json
import math
import re
import string
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import transformers
from torch.nn import functional

HERE = Path(__file__).parent
MODEL = sys.argv[1] if len(sys.argv) > 1 else "minilm"
DEVICE = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
SEED = 0
BATCH_ROWS = 16  # rows of a step
MICRO_TOKENS = 8192  # tokens that go through the model at once: less takes less memory and gives the same gradient
LEARNING_RATE = 0.0003  # at its peak
MAX_GRAD_NORM = 1.0
MAX_TOKENS = 384  # special tokens included
STRIDE = 128  # tokens that neighbouring windows share, at most half of the room for the context
MAX_ANSWER_TOKENS = 30
N_BEST = 5  # answers that are listed
CANDIDATES = 20  # of a window
INPUTS = ["input_ids", "token_type_ids"]
PAD_ID = 0

tokenizer = transformers.AutoTokenizer.from_pretrained(MODEL)


def encode(row):
    """Return the features of a question: a window over its context, or several that overlap by STRIDE tokens."""
    asked = len(tokenizer(row["question"], add_special_tokens=False)["input_ids"])
    room = MAX_TOKENS - tokenizer.num_special_tokens_to_add(pair=True) - asked
    encoded = tokenizer(
        row["question"],
        row["context"],
        truncation="only_second",
        max_length=MAX_TOKENS,
        stride=min(STRIDE, room // 2),
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    features = []
    for number in range(len(encoded["input_ids"])):
        # The characters of each token of the context; None for the question's and for special ones.
        sides = encoded.sequence_ids(number)
        spans = [span if side == 1 else None for span, side in zip(encoded["offset_mapping"][number], sides, strict=True)]
        features.append({**{name: encoded[name][number] for name in INPUTS}, "spans": spans})
    for feature, labels in zip(features, labels_of(row, [feature["spans"] for feature in features]), strict=True):
        feature["labels"] = labels
    return features


def labels_of(row, windows):
    """Return for each window the first and the last token of the answer, of the first reference that one holds whole.

    A window without it points at its first token, which stands for "no answer". Where no window holds an answer whole,
    nothing is learned (-100).
    """
    for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
        end = start + len(text)
        touched = [
            [place for place, span in enumerate(spans) if span and span[0] < end and span[1] > max(start, span[0])]
            for spans in windows
        ]
        whole = {spans[place] for spans, places in zip(windows, touched, strict=True) for place in places}
        holding = [bool(whole) and {spans[p] for p in places} == whole for spans, places in zip(windows, touched, strict=True)]
        if any(holding):
            return [[ps[0], ps[-1]] if holds else [0, 0] for ps, holds in zip(touched, holding, strict=True)]
    return [[-100, -100] if row["answers"]["text"] else [0, 0]] * len(windows)


def steps_of_epoch(sizes, epoch):
    """Return the rows of each optimizer step of an epoch; the order depends on the seed and the epoch alone.

    Args:
        sizes: the tokens of each training row.
        epoch: from 0.
    """
    order = np.random.default_rng((SEED, epoch)).permutation(len(sizes)).tolist()
    return [order[start : start + BATCH_ROWS] for start in range(0, len(order), BATCH_ROWS)]


def num_tokens(feature):
    """Return how many tokens a feature puts through the model."""
    return len(feature["input_ids"])


def batches(features):
    """Yield lists of places: features of like length together, at most MICRO_TOKENS tokens with their padding."""
    order = sorted(range(len(features)), key=lambda place: -num_tokens(features[place]))
    start = 0
    while start < len(order):
        end = start + max(1, MICRO_TOKENS // num_tokens(features[order[start]]))
        yield order[start:end]
        start = end


def padded(rows, value):
    """Return lists of numbers as one tensor [B, T]."""
    width = max(map(len, rows))
    return torch.tensor([row + [value] * (width - len(row)) for row in rows], device=DEVICE)


def inputs_of(features):
    """Return what the model takes: each name of INPUTS as [B, T], and the attention mask."""
    inputs = {name: padded([f[name] for f in features], PAD_ID if name == "input_ids" else 0) for name in INPUTS}
    inputs["attention_mask"] = padded([[1] * len(f["input_ids"]) for f in features], 0)
    return inputs


def logits_of(model, features):
    """Return the logits of first and last token [B, 2, T], float32; those of padding are -inf."""
    inputs = inputs_of(features)
    output = model(**inputs)
    logits = torch.stack([output.start_logits, output.end_logits], 1).float()
    return logits.masked_fill(inputs["attention_mask"][:, None, :] == 0, -torch.inf)


def loss_of(model, features):
    """Return the loss, summed over first and last tokens."""
    labels = torch.tensor([feature["labels"] for feature in features], device=DEVICE)
    return functional.cross_entropy(logits_of(model, features).flatten(0, 1), labels.flatten(), reduction="sum")


def weight_of(feature):
    """Return the number of a feature's targets: the loss of a step is divided by their sum."""
    return float(sum(label != -100 for label in feature["labels"]))


def best_spans(row, feature, logits):
    """Yield (logit, first character, end) of a window's best spans of at most MAX_ANSWER_TOKENS tokens."""
    inside = [place for place, span in enumerate(feature["spans"]) if span and span[1] > span[0]]
    sums = logits[0, inside][:, None] + logits[1, inside][None, :]
    allowed = np.triu(np.ones_like(sums, dtype=bool)) & ~np.triu(np.ones_like(sums, dtype=bool), MAX_ANSWER_TOKENS)
    scores = np.where(allowed, sums, -np.inf)
    top = min(CANDIDATES, int(allowed.sum()))
    for place in np.argpartition(scores, scores.size - top, axis=None)[scores.size - top :] if top else ():
        first, last = (feature["spans"][inside[side]] for side in np.unravel_index(place, scores.shape))
        text = row["context"][first[0] : last[1]]
        if text.strip():
            start = first[0] + len(text) - len(text.lstrip())
            yield float(scores.flat[place]), start, start + len(text.strip())


@torch.inference_mode()
def predict(model, rows):
    """Return (logit of "no answer", best spans over all windows) of each row, the best first."""
    model.eval()
    features = [{**feature, "row": number} for number, row in enumerate(rows) for feature in encode(row)]
    nulls, found = [np.inf] * len(rows), [[] for _ in rows]
    for places in batches(features):
        chosen = [features[place] for place in places]
        for feature, logits in zip(chosen, logits_of(model, chosen).cpu().numpy(), strict=True):
            number = feature["row"]
            nulls[number] = min(nulls[number], float(logits[:, 0].sum()))
            found[number] += best_spans(rows[number], feature, logits)
    return [(null, sorted(spans, key=lambda span: (-span[0], *span[1:]))) for null, spans in zip(nulls, found, strict=True)]


def normalize(text):
    """Lower the case, drop punctuation and articles, and fold white space, as SQuAD's own script does."""
    text = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def score(answer, references):
    """Return exact match and F1 of an answer, each the best over the references; none: no answer is right."""
    wanted = [normalize(reference) for reference in references]
    wanted = [reference for reference in wanted if reference] or [""]
    found = normalize(answer)
    f1 = 0.0
    for reference in wanted:
        left, right = found.split(), reference.split()
        common = sum((Counter(left) & Counter(right)).values())
        f1 = max(f1, 2 * common / (len(left) + len(right)) if left and right else float(left == right))
    return float(found in wanted), f1


def evaluate(model, rows, threshold=0.0):
    """Return the scores of a model on rows, and its answers; above the threshold of log odds there is none."""
    results, answers = [], []
    for row, (null, spans) in zip(rows, predict(model, rows), strict=True):
        none = not spans or round(null - spans[0][0], 6) > threshold
        answers.append({"answer": "" if none else row["context"][spans[0][1] : spans[0][2]], "n_best": n_best(row, spans)})
        results.append((bool(row["answers"]["text"]), *score(answers[-1]["answer"], row["answers"]["text"])))
    answered = [f1 for answerable, _, f1 in results if answerable]
    unanswered = [exact for answerable, exact, _ in results if not answerable]
    scores = {
        "f1": sum(f1 for _, _, f1 in results) / len(results),
        "exact_match": sum(exact for _, exact, _ in results) / len(results),
        "has_answer_f1": sum(answered) / max(1, len(answered)),
        "no_answer_accuracy": sum(unanswered) / max(1, len(unanswered)),
    }
    return scores, answers


def best_threshold(model, rows):
    """Return the threshold with the best F1 on rows: above it a question has no answer."""
    scored = []
    for row, (null, spans) in zip(rows, predict(model, rows), strict=True):
        if spans:
            text = row["context"][spans[0][1] : spans[0][2]]
            gain = score(text, row["answers"]["text"])[1]
            scored.append((round(null - spans[0][0], 6), gain, bool(row["answers"]["text"])))
    scored.sort(key=lambda item: item[0])
    if len({answerable for _, _, answerable in scored}) < 2:
        return 0.0
    # With nothing answered, the questions without an answer are right; then one after another is answered.
    current = best = sum(not answerable for _, _, answerable in scored)
    threshold = min(0.0, math.nextafter(scored[0][0], -math.inf))
    for place, (odds, gain, answerable) in enumerate(scored):
        current += gain if answerable else -1.0
        last_of_equals = place + 1 == len(scored) or scored[place + 1][0] > odds
        if last_of_equals and current > best:
            best, threshold = current, odds
    return threshold


def n_best(row, spans):
    """Return the N_BEST best answers that differ, each with its characters and its logit."""
    distinct = {}
    for logit, start, end in spans:
        distinct.setdefault((start, end), logit)
    return [
        {"answer": row["context"][start:end], "start": start, "end": end, "logit": logit}
        for (start, end), logit in list(distinct.items())[:N_BEST]
    ]


def load():
    """Return the model; what its folder lacks is made new from the seed."""
    torch.manual_seed(SEED)
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(MODEL, dtype=torch.float32)
    return model.to(DEVICE)


def train(model, rows, validation):
    """Train a model, and leave it with the weights of the best f1 on validation."""
    features = [encode(row) for row in rows]  # those of each row stay together
    sizes = [sum(map(num_tokens, own)) for own in features]
    per_epoch = len(steps_of_epoch(sizes, 0))
    total = 5 * per_epoch
    warmup = round(total * 10 / 100)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.0)
    schedule = transformers.get_scheduler("linear", optimizer, warmup, total)
    began = time.perf_counter()
    best, kept = -math.inf, None
    step = 0
    for epoch in itertools.count():
        done = 0  # rows of this epoch
        for members in steps_of_epoch(sizes, epoch):
            chosen = [feature for row in members for feature in features[row]]
            # One mean over all targets of the step: the gradient does not depend on how the step is cut into batches.
            weight = sum(map(weight_of, chosen)) or 1.0
            loss = 0.0
            model.train()
            for places in batches(chosen):
                part = loss_of(model, [chosen[place] for place in places]) / weight
                part.backward()
                loss += part.item()
            torch.nn.utils.clip_grad_norm_(trained, MAX_GRAD_NORM)
            rate = schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            done += len(members)
            print(f"step {step}/{total}  loss {loss:.6f}  learning rate {rate:.3g}", flush=True)
            if done == len(rows) or step == total:
                value = evaluate(model, validation)[0]["f1"]
                print(f"step {step}  validation f1 {value:.4f}", flush=True)
                if value > best:
                    best, kept = value, [parameter.detach().clone() for parameter in trained]
            if step == total:
                print(f"trained in {time.perf_counter() - began:.1f} s, validation included", flush=True)
                with torch.no_grad():
                    for parameter, value in zip(trained, kept or trained, strict=True):
                        parameter.copy_(value)
                return


def read(name):
    """Return the rows of a split, one JSON object a line."""
    with (HERE / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def main():
    """Train, score and save."""
    model = load()
    train(model, read("train"), read("validation"))
    threshold = best_threshold(model, read("validation"))
    rows = read("test")
    scores, predictions = evaluate(model, rows, threshold)
    print("test", "  ".join(f"{name} {value:.4f}" for name, value in scores.items()))
    (HERE / "scores.json").write_text(json.dumps({"test": scores}, indent=1) + "\n", encoding="utf-8")
    with (HERE / "predictions.jsonl").open("w", encoding="utf-8") as lines:
        lines.writelines(json.dumps(prediction, ensure_ascii=False) + "\n" for prediction in predictions)
    model.save_pretrained(HERE / "model")
    tokenizer.save_pretrained(HERE / "model")


if __name__ == "__main__":
    main()
