from luthier.metrics import Score
from luthier.report.verdict import verdict

OURS = Score(0.962, 0.954, 0.970, 2189)
OTHERS = {"majority": Score(0.495, 0.47, 0.51, 2189), "tfidf_logistic_regression": Score(0.941, 0.93, 0.95, 2189)}


def test_a_difference_beyond_chance_was_worth_it():
    paired = {"majority": (0.4, 0.5), "tfidf_logistic_regression": (0.012, 0.030)}
    assert verdict("accuracy", OURS, OTHERS, paired) == (
        "Fine-tuning was worth it: accuracy 0.962 (0.954 to 0.970) against 0.941 for TF-IDF with logistic regression; "
        "the difference, 0.021 (0.012 to 0.030), is beyond chance."
    )


def test_an_interval_that_holds_zero_is_within_chance():
    said = verdict("accuracy", OURS, OTHERS, {"tfidf_logistic_regression": (0.0, 0.04)})
    assert said.startswith("Fine-tuning is not shown to be worth it: ")
    assert said.endswith("is within chance: these rows do not tell the two apart.")


def test_a_model_that_lost_is_told_so():
    said = verdict("f1", Score(0.4, 0.3, 0.5, 20), {"majority": Score(0.6, 0.5, 0.7, 20)}, {"majority": (-0.3, -0.1)})
    assert said.startswith("Fine-tuning was not worth it, it did worse than the simpler method: F1 0.400 (0.300 to 0.500)")
    assert "-0.200 (-0.300 to -0.100), is beyond chance" in said


def test_the_strongest_baseline_counts_and_not_the_easiest():
    assert "for majority class" in verdict(
        "accuracy", OURS, {"majority": Score(0.9, 0.8, 1, 9), "x": Score(0.1, 0, 1, 9)}, {"majority": (0.1, 0.2)}
    )


def test_nothing_is_claimed_without_an_interval_or_a_baseline():
    assert "so it may be chance" in verdict("accuracy", OURS, OTHERS)
    assert "is open" in verdict("accuracy", OURS, {}, {})
    assert "accuracy 0.500;" in verdict("accuracy", Score(0.5, None, None, 1), {})
