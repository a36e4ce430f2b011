import dataclasses

import yaml

import sample_reports as samples
from luthier.metrics import Score
from luthier.report.card import base_model, model_card


def front_matter(card: str) -> dict:
    _, matter, _ = card.split("---\n", 2)
    return yaml.safe_load(matter)


def test_the_front_matter_is_what_the_hub_reads():
    assert front_matter(model_card(samples.tagging())) == {
        "library_name": "transformers",
        "pipeline_tag": "token-classification",
        "base_model": "sentence-transformers/all-MiniLM-L6-v2",
        "tags": ["luthier"],
        "metrics": ["f1", "precision", "recall"],
    }
    assert front_matter(model_card(samples.bare())) == {
        "library_name": "transformers",
        "pipeline_tag": "text-classification",
        "tags": ["luthier"],
    }


def test_a_base_model_is_named_only_where_the_hub_has_it(tmp_path, monkeypatch):
    assert base_model("hf:bert-base-cased") == "bert-base-cased"
    assert base_model("google/electra-small-discriminator") == "google/electra-small-discriminator"
    assert base_model("minilm") is None
    assert base_model("./models/bert") is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "bert").mkdir(parents=True)
    assert base_model("models/bert") is None


def test_the_card_gives_scores_baselines_and_verdict():
    card = model_card(samples.classification())
    assert "**accuracy 0.962 (0.954 to 0.970)**" in card
    assert "| accuracy | 0.962 | 0.954 to 0.970 | 0.495 (0.474 to 0.515) | 0.941 (0.931 to 0.951) |" in card
    assert "Fine-tuning was worth it" in card
    assert "### Validation split" in card
    assert "luthier predict runs/news-topics" in card
    assert "coffee" in card


def test_a_run_without_scores_has_a_card_too():
    card = model_card(samples.bare())
    assert "## Scores" not in card
    assert "There is no score." in card
    assert "luthier evaluate runs/bare --data other.jsonl" in card


def test_what_users_wrote_stays_text_and_inside_its_cell():
    hostile = "a|b\n<script>`x`</script> [link](x)"
    report = dataclasses.replace(
        samples.bare(),
        name=hostile,
        settings={"data.train": hostile, "output": "runs/my run"},
        scores={"test": {hostile: Score(1.0, None, None, 1)}},
    )
    card = model_card(report)
    assert "# a\\|b \\<script\\>\\`x\\`\\</script\\> \\[link\\](x)\n" in card
    assert "| `data.train` | `a\\|b <script>'x'</script> [link](x)` |" in card
    assert "luthier predict 'runs/my run' --input" in card
    assert front_matter(card)["metrics"] == [hostile]
