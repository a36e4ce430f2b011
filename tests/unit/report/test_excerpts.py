import dataclasses

import sample_reports as samples
from luthier.report.excerpts import MAX_CHARACTERS, draw_excerpts
from luthier.report.html import page
from luthier.tasks.task import Excerpt, Mark
from page_tree import Node, Tree


def cards(*excerpts: Excerpt) -> list[Node]:
    return Tree(draw_excerpts(excerpts)).root.all("li")


def own_text(node: Node) -> str:
    """Return the excerpt's own text: without the labels that stand between its words."""
    return "".join(
        child
        if isinstance(child, str)
        else ""
        if {"tag", "cut"} & set(child.attributes.get("class", "").split())
        else own_text(child)
        for child in node.children
    )


def shown(excerpt: Excerpt) -> Node:
    return Tree(draw_excerpts([excerpt])).root.all("p", "text")[0]


def test_marks_leave_the_text_as_it_is():
    text = "Dr. 李 <b> met\n  Ann O'Neil in Åbo."
    marks = (
        Mark(4, 5, "PER", "both"),
        Mark(16, 26, "PER", "gold"),
        Mark(20, 30, "LOC", "predicted"),
        Mark(30, 33, "LOC", "gold"),
    )
    assert own_text(shown(Excerpt(text, "", "", 1.0, marks))) == text


def test_where_marks_overlap_a_stretch_carries_both():
    node = shown(Excerpt("abcdefghij", "", "", 1.0, (Mark(0, 6, "X", "gold"), Mark(4, 9, "Y", "predicted"))))
    assert [(span.text, span.attributes["class"]) for span in node.all("span", "mark")] == [
        ("abcd", "mark gold"),
        ("ef", "mark gold predicted"),
        ("ghi", "mark predicted"),
    ]
    assert [tag.text for tag in node.all("span", "tag")] == ["gold X", "predicted Y"]


def test_what_a_mark_means_is_said_in_words_too():
    node = shown(Excerpt("abcdef", "", "", 1.0, (Mark(0, 2, "X", "both"), Mark(3, 4, "", "gold"))))
    assert [tag.text for tag in node.all("span", "tag")] == ["X", "gold"]
    legend = Tree(draw_excerpts([Excerpt("ab", "", "", 1.0, (Mark(0, 1, "X", "gold"),))])).root.all("ul", "legend")
    assert len(legend[0].all("li")) == 3


def test_without_marks_there_is_no_legend():
    assert not Tree(draw_excerpts([Excerpt("text", "a", "b", 1.0)])).root.all("ul", "legend")


def test_a_mark_beyond_the_text_or_empty_does_no_harm():
    node = shown(Excerpt("abc", "", "", 1.0, (Mark(1, 99, "X", "gold"), Mark(2, 2, "Y", "gold"), Mark(7, 9, "Z", "gold"))))
    assert own_text(node) == "abc"
    assert [span.text for span in node.all("span", "mark")] == ["bc"]


def test_a_long_text_is_clipped_and_says_so():
    node = shown(Excerpt("a" * 5000, "", "", 1.0))
    assert own_text(node) == "a" * MAX_CHARACTERS
    assert "3,000 characters after this not shown" in node.text


def test_a_long_text_is_clipped_around_its_first_mark():
    text = "a" * 5000 + "HERE" + "b" * 5000
    node = shown(Excerpt(text, "", "", 1.0, (Mark(5000, 5004, "", "gold"),)))
    assert [span.text for span in node.all("span", "mark")] == ["HERE"]
    assert len(own_text(node)) == MAX_CHARACTERS
    assert "4,500 characters before this not shown" in node.text
    assert "3,504 characters after this not shown" in node.text


def test_what_is_right_is_no_error_and_an_empty_answer_is_said():
    found = cards(Excerpt("right", "a", "a", 0.0), Excerpt("wrong", "a", "", 1.0))
    assert len(found) == 1
    assert "(nothing)" in found[0].text
    assert "every example that was scored is right" in Tree(draw_excerpts([Excerpt("right", "a", "a", 0.0)])).root.text


def test_at_most_fifty_errors_are_shown_and_the_page_stays_small():
    excerpts = [Excerpt("語" * 20_000, "a", "b", 100.0 - at) for at in range(80)]
    text = page(dataclasses.replace(samples.classification(), excerpts=excerpts))
    assert len([node for node in Tree(text).root.all("ol", "excerpts") for _ in node.all("li")]) == 50
    assert len(text.encode()) < 450_000
