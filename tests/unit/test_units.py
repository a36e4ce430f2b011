import pytest

from luthier.units import BatchSize, Duration, MicroBatch, Share, Warmup


@pytest.mark.parametrize(
    ("kind", "text", "value", "unit"),
    [
        (Duration, "3 epochs", 3, "epochs"),
        (Duration, "1 epoch", 1, "epochs"),
        (Duration, "0.5 epochs", 0.5, "epochs"),
        (Duration, "500 steps", 500, "steps"),
        (BatchSize, "32 examples", 32, "examples"),
        (BatchSize, "16k tokens", 16_000, "tokens"),
        (MicroBatch, "4_096 tokens", 4096, "tokens"),
        (Share, "10%", 10, "%"),
        (Share, "200 rows", 200, "rows"),
        (Warmup, "0%", 0, "%"),
        (Warmup, "0 steps", 0, "%"),
    ],
)
def test_a_quantity_is_read_with_its_unit(kind, text, value, unit):
    quantity = kind.parse(text)
    assert (quantity.value, quantity.unit) == (value, unit)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Duration, "3"),
        (Duration, 3),
        (Duration, "3 weeks"),
        (Duration, "-1 epochs"),
        (Duration, "0 epochs"),
        (Duration, "1.5 steps"),
        (BatchSize, "32"),
        (BatchSize, "8 rows"),
        (MicroBatch, "8 examples"),
        (Share, "110%"),
        (Share, "no"),
        (Share, None),
        (Share, True),
    ],
)
def test_a_quantity_without_a_fitting_unit_is_refused_with_an_example(kind, text):
    with pytest.raises(ValueError, match="found"):
        kind.parse(text)


@pytest.mark.parametrize("text", ["3 epochs", "1 epoch", "0.5 epochs", "500 steps", "1 step"])
def test_a_quantity_prints_as_it_is_read(text):
    assert str(Duration.parse(text)) == text


def test_a_duration_becomes_steps():
    assert Duration.parse("2 epochs").steps(7) == 14
    assert Duration.parse("0.5 epochs").steps(7) == 4
    assert Duration.parse("10 steps").steps(7) == 10
    assert Duration.parse("0.01 epochs").steps(7) == 1


def test_a_warmup_becomes_steps_and_never_more_than_there_are():
    assert Warmup.parse("10%").steps(50, 10) == 5
    assert Warmup.parse("1 epoch").steps(50, 10) == 10
    assert Warmup.parse("100 steps").steps(50, 10) == 50
    assert Warmup.parse("0%").steps(50, 10) == 0
