import pytest

from luthier.metrics.words import folded, pieces, words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The QUICK-fox's_tail, 2.5%!", ["the", "quick", "fox", "s", "tail", "2", "5"]),
        ("Über naïve Œuvre", ["über", "naïve", "œuvre"]),
        ("cafe\u0301 noir", ["cafe\u0301", "noir"]),
        ("हिन्दी भाषा।", ["हिन्दी", "भाषा"]),
        ("مُحَمَّد هنا", ["مُحَمَّد", "هنا"]),
        ("한국어 문장", ["한국어", "문장"]),
        ("使用GPU训练,很快。", ["使", "用", "gpu", "训", "练", "很", "快"]),
        ("カタカナ・ひらがな", list("カタカナひらがな")),
        ("ที่นี่", ["ที่", "นี่"]),
        ("\U00020000\U00020001", ["\U00020000", "\U00020001"]),
        (" \n", []),
    ],
)
def test_words_are_runs_of_letters_or_characters_where_there_are_no_blanks(text, expected):
    assert words(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No, no: NO!", ["No,", "no:", "NO!"]),
        ("... ...", ["...", "..."]),
        ("用GPU吧。", ["用", "GPU", "吧", "。"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("", []),
    ],
)
def test_pieces_keep_punctuation_and_case(text, expected):
    assert pieces(text) == expected


def test_folding_takes_case_and_white_space_away():
    assert folded("  Straße\n\tIst \u3000 da ") == "strasse ist da"
