import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from luthier.report.charts import Dot, interval_chart, line_chart, thinned, ticks

numbers = st.floats(-1e6, 1e6, allow_nan=False).map(lambda value: round(value, 4))


@given(numbers, numbers)
def test_ticks_are_even_few_and_cover_the_range(first: float, second: float):
    low, high = sorted((first, second))
    found = ticks(low, high)
    step = found[1] - found[0]
    assert 2 <= len(found) <= 7
    assert found[0] <= low + step * 1e-6
    assert found[-1] >= high - step * 1e-6
    assert all(abs((b - a) - step) < step * 1e-6 for a, b in pairwise(found))


def test_ticks_are_round_numbers():
    assert ticks(0.0, 2.03) == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]
    assert ticks(0.941, 0.96) == [0.94, 0.945, 0.95, 0.955, 0.96]


def test_thinning_keeps_short_lines_and_the_mean_and_the_end_of_long_ones():
    short = [(1, 0.5), (2, 0.25)]
    assert thinned(short) == short
    long = [(step, float(step)) for step in range(1, 1001)]
    few = thinned(long, 100)
    assert len(few) == 100
    assert few[-1][0] == 1000
    assert sum(value for _, value in few) / 100 == 500.5


def test_dots_lie_in_their_intervals_and_in_the_order_of_their_values():
    dots = [
        Dot("a", 0.9, 0.85, 0.95, "0.900", "x"),
        Dot("b", 0.5, None, None, "0.500", ""),
        Dot("c", 0.99, 0.97, 1.0, "0.990", "y"),
    ]
    svg = interval_chart(dots, name="n", title="t", description="d")
    a, b, c = (float(x) for x in re.findall(r'cx="([\d.]+)%"', svg))
    assert 0 < b < a < c < 100
    spans = re.findall(r'<line x1="([\d.]+)%" y1="[\d.]+" x2="([\d.]+)%" y2="[\d.]+" class="interval', svg)
    assert len(spans) == 2  # b has none
    assert float(spans[0][0]) < a < float(spans[0][1])
    assert float(spans[1][1]) <= 97.01


def test_shares_have_no_tick_above_one():
    svg = interval_chart([Dot("a", 0.99, 0.98, 1.0, "0.990", "x")], name="n", title="t", description="d")
    labels = [float(text) for text in re.findall(r'class="tick"[^>]*>([\d.]+)<', svg)]
    assert max(labels) == 1.0


def test_a_line_goes_through_its_points():
    svg = line_chart([(0, 0.0), (50, 1.0), (100, 0.5)], last=100, name="n", title="t", write=str, height=100)
    path = re.findall(r'd="M([^"]+)"', svg)[0]
    assert path == "0.0 100.0L500.0 0.0L1000.0 50.0"
    assert "step 50: 1.0" in svg
    assert "From 0.0 at step 0 to 0.5 at step 100; lowest 0.0, highest 1.0." in svg


def test_one_point_and_a_flat_line_can_be_drawn():
    assert "step 7: 3.0" in line_chart([(7, 3.0)], last=7, name="n", title="t", write=str)
    assert "highest 0.0" in line_chart([(1, 0.0), (2, 0.0)], last=2, name="n", title="t", write=str)


def test_a_long_line_stays_small():
    points = [(step, step % 7 / 7) for step in range(100_000)]
    assert len(line_chart(points, last=100_000, name="n", title="t", write=str, smooth=True)) < 40_000
