"""Which pairs each rule leaves out, and which it keeps."""

from pathlib import Path

import pytest

from luthier.data.cleaning import Cleaning, scripts_of
from luthier.data.ledger import summarize_splits
from luthier.data.preparation import prepare
from luthier.data.sources import open_source
from luthier.errors import InputError
from luthier.tasks import TASKS
from luthier.units import Share


def reason(
    cleaning: Cleaning, source: str, target: str, *, languages: tuple[str | None, str | None] = ("en", "fr")
) -> str | None:
    return cleaning.start(*languages).reason(source, target)


def test_nothing_is_left_out_unasked():
    cleaner = Cleaning().start("en", "fr")
    for pair in [("", ""), ("a", "a"), ("a", "a" * 99), ("один", "два"), ("", "")]:
        assert cleaner.reason(*pair) is None


@pytest.mark.parametrize(
    ("source", "target", "left_out"),
    [
        ("Hello", "Bonjour", False),
        ("Hello", "", True),
        ("", "你好", True),
        ("Hello", " \t\u3000", True),
        ("Hello", "123 %", True),
        ("...", "привет", True),
        ("你好", "привет", False),
        ("é", "1st", False),
        ("", "", True),
    ],
)
def test_a_side_without_letters_is_empty(source: str, target: str, left_out: bool):
    expected = "cleaned: a side has no letters" if left_out else None
    assert reason(Cleaning(empty=True), source, target) == expected


@pytest.mark.parametrize(
    ("source", "target", "left_out"),
    [
        ("Open the file", "Ouvrir le fichier", False),
        ("Open the file", "Open the file", True),
        ("Open the file", "  OPEN the\u00a0 file\n", True),
        ("Open the file", "Open the file.", False),
        ("你好，世界", "你好，世界", True),
        ("你好，世界", "你好世界", False),
        ("Привет, МИР", "привет, мир", True),
        ("Привет, мир", "Здравствуй, мир", False),
        ("Straße", "STRASSE", True),
    ],
)
def test_sides_that_differ_in_case_and_white_space_alone_are_equal(source: str, target: str, left_out: bool):
    expected = "cleaned: source and target are the same" if left_out else None
    assert reason(Cleaning(equal=True), source, target) == expected


@pytest.mark.parametrize(
    ("source", "target", "left_out"),
    [
        ("a" * 30, "b" * 10, False),
        ("a" * 31, "b" * 10, True),
        ("b" * 10, "a" * 31, True),
        ("  aaa  ", "b" + " " * 30, False),
        ("a", "", True),
        ("", "", False),
        ("Please enter your password again.", "请再次输入密码。", False),  # 33 characters against 8
        ("Please enter your password again.", "密码", True),
        ("Yes", "请再次输入您的密码", True),
        ("Please enter your password again.", "パスワードを再入力してください。", False),
        ("Please enter your password again.", "비밀번호를 다시 입력하세요.", False),
        ("Please enter your password again.", "Пожалуйста, введите пароль ещё раз.", False),
        ("Please enter your password again.", "Пароль", True),
    ],
)
def test_one_side_is_far_longer_than_the_other(source: str, target: str, left_out: bool):
    expected = "cleaned: length ratio above 3" if left_out else None
    assert reason(Cleaning(length_ratio=3.0), source, target) == expected


def test_the_reason_names_the_ratio_that_was_asked_for():
    assert reason(Cleaning(length_ratio=1.5), "aaaa", "bb") == "cleaned: length ratio above 1.5"
    assert reason(Cleaning(length_ratio=2.0), "aaaa", "bb") is None


@pytest.mark.parametrize(
    ("language", "target", "left_out"),
    [
        ("fr", "Où est le café ?", False),
        ("fr", "Где кафе?", True),
        ("pt_BR", "Não há café.", False),
        ("de-AT", "咖啡馆在哪里？", True),
        ("fr", "Le mot « мир » veut dire paix.", False),
        ("ru", "Где кафе?", False),
        ("ru", "Where is the café?", True),
        ("ru", "Откройте JupyterLab", False),
        ("uk", "Де кав'ярня?", False),
        ("zh", "咖啡馆在哪里？", False),
        ("zh_CN", "打开 JupyterLab 扩展管理器", False),
        ("zho_Hans", "Where is the café?", True),
        ("zh", "カフェはどこですか", True),
        ("ja", "カフェはどこですか", False),
        ("ja", "喫茶店はﾄﾞｺですか、人々", False),
        ("ja", "コーヒー", False),
        ("ja", "Где кафе?", True),
        ("ko", "카페가 어디예요?", False),
        ("ko", "JupyterLab은", False),
        ("ko", "咖啡馆在哪里？", True),
        ("ar", "أين المقهى؟", False),
        ("ar", "Where is it?", True),
        ("el", "Πού είναι το καφέ;", False),
        ("he", "איפה בית הקפה?", False),
        ("hi", "कैफ़े कहाँ है?", False),
        ("hi", "Where is it?", True),
        ("th", "ร้านกาแฟอยู่ที่ไหน", False),
        ("th", "Где кафе?", True),
        ("srp_Cyrl", "Где је кафић?", False),
        ("srp_Cyrl", "Gde je kafić?", True),
        ("sr", "Gde je kafić?", False),
        ("ru", "123 %", False),
        ("xx_Latn", "Где кафе?", True),
    ],
)
def test_a_target_in_the_wrong_script(language: str, target: str, left_out: bool):
    expected = f"cleaned: target is not in the script of {language}" if left_out else None
    assert reason(Cleaning(script=True), "(42)", target, languages=(None, language)) == expected


def test_words_that_both_sides_have_do_not_speak_against_a_script():
    cleaner = Cleaning(script=True).start("en", "ru")
    assert cleaner.reason("%(app_label)s was moved to JupyterLab %(n)d", "%(app_label)s в JupyterLab %(n)d") is None
    assert cleaner.reason("Hello, world!", "hello world") == "cleaned: target is not in the script of ru"


def test_a_source_in_the_wrong_script_where_its_language_is_given():
    assert reason(Cleaning(script=True), "Где кафе?", "Où est le café ?", languages=(None, "fr")) is None
    cleaner = Cleaning(script=True).start("zh", "fr")
    assert cleaner.reason("Where is it?", "Où est-il ?") == "cleaned: source is not in the script of zh"
    assert cleaner.reason("在哪里？", "Où est-il ?") is None


def test_a_script_that_cannot_be_known_is_asked_for():
    with pytest.raises(InputError, match=r"needs the language of the target.*task\.target_language="):
        Cleaning(script=True).start("en", None)
    with pytest.raises(InputError, match=r'no script for the language "tlh".*tlh_Latn'):
        Cleaning(script=True).start("en", "tlh")
    assert scripts_of("ZHO-hant") == ("CJK", "IDEOGRAPHIC")
    Cleaning(empty=True, equal=True, length_ratio=3.0, duplicates=True).start(None, "tlh")


def test_a_pair_that_stood_before_is_a_duplicate_but_one_that_shares_a_side_is_none():
    cleaner = Cleaning(duplicates=True).start("en", "ru")
    seen = [("dog", "собака"), ("dog", "пёс"), ("hound", "собака"), ("dogсоб", "ака"), ("Dog", "собака"), ("狗", "собака")]
    assert [cleaner.reason(*pair) for pair in seen] == [None] * 6
    again = [*seen, (" dog\t", "собака\u3000")]
    assert {cleaner.reason(*pair) for pair in again} == {"cleaned: the same pair stood before"}
    assert Cleaning(duplicates=True).start("en", "ru").reason("dog", "собака") is None


def test_the_first_rule_gives_the_reason_and_what_is_left_out_does_not_count_as_seen():
    cleaner = Cleaning(empty=True, equal=True, length_ratio=3.0, script=True, duplicates=True).start("en", "ru")
    assert [
        cleaner.reason(*pair) for pair in [("a", ""), ("OK", "ok"), ("long sentence", "да"), ("yes", "no"), ("yes", "да")]
    ] == [
        "cleaned: a side has no letters",
        "cleaned: source and target are the same",
        "cleaned: length ratio above 3",
        "cleaned: target is not in the script of ru",
        None,
    ]
    assert cleaner.reason("yes", "no") == "cleaned: target is not in the script of ru"
    assert cleaner.reason("yes", "да") == "cleaned: the same pair stood before"


def test_the_ledger_counts_each_rule(tmp_path: Path):
    (tmp_path / "train.en").write_text("A dog runs.\nA dog runs.\nOK\n\nTwo cats\n42\n", encoding="utf-8")
    (tmp_path / "train.fr").write_text("Un chien court.\nUn chien court.\nOK\nVide\nДве кошки\n42\n", encoding="utf-8")
    task = TASKS.get("translation")(
        source_language="en", target_language="fr", clean=("empty", "equal", "length_ratio", "script", "duplicates")
    )
    source = open_source(f"{tmp_path}/train.{{en,fr}}")
    prepared = prepare(
        task, {"train": source}, columns={}, validation=None, max_rejected=Share(1, "%"), folder=tmp_path / "work"
    )
    assert len(prepared.splits["train"]) == 1
    assert [(entry.line, entry.reason) for entry in prepared.entries] == [
        (2, "cleaned: the same pair stood before"),
        (3, "cleaned: source and target are the same"),
        (4, "cleaned: a side has no letters"),
        (5, "cleaned: target is not in the script of fr"),
        (6, "cleaned: a side has no letters"),
    ]
    (summary,) = summarize_splits(prepared.entries)
    assert (summary.skipped, summary.rejected) == (5, 0)
