"""Texts become the terms that they should, in every language, and offsets lead back to the original words."""

# ruff: noqa: RUF001 - characters that look alike are the subject

from __future__ import annotations

import random
import subprocess
import sys
import threading
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kektordb.errors import ConfigError
from kektordb.text import Analyzer, languages
from kektordb.text.analyzer import CACHED_TOKENS, normalised

ENGLISH = Analyzer("english")
SIMPLE = Analyzer("simple")

# Two forms of a word, of which the algorithm must make one.
FORMS = {
    "arabic": "كتاب الكتاب",
    "catalan": "gats gat",
    "danish": "husene huset",
    "dutch": "boeken boek",
    "english": "running runs",
    "finnish": "talossa talosta",
    "french": "continuation continuations",
    "german": "häuser haus",
    "greek": "άνθρωπος ΑΝΘΡΏΠΟΥ",
    "hindi": "भाषाओं भाषा",
    "hungarian": "házak ház",
    "irish": "bhád bád",
    "italian": "gatti gatto",
    "norwegian": "husene huset",
    "persian": "کتاب\u200cها کتاب",
    "portuguese": "meninos menino",
    "romanian": "copiilor copii",
    "russian": "книги книга",
    "spanish": "gatos gato",
    "swedish": "husen huset",
    "turkish": "evler ev",
}
WITH_STOP_WORDS = {
    "danish": 94, "dutch": 101, "english": 131, "finnish": 229, "french": 164, "german": 231, "hungarian": 197,
    "irish": 109, "italian": 279, "norwegian": 172, "portuguese": 203, "russian": 159, "spanish": 306, "swedish": 114,
}  # fmt: skip


@pytest.mark.parametrize("language", languages())
def test_every_language_analyses_words_of_every_script(language: str) -> None:
    analyzer = Analyzer(language)

    terms = analyzer.analyse("Zebra 42 Ærø Москва αθήνα हिन्दी العربية 한국어 東京 ʼn")

    assert len(terms) >= 9
    assert all(terms)
    assert {"42", "東京"} <= set(terms)
    assert [term for term, _, _ in analyzer.spans("Zebra")] == analyzer.analyse("zebra")


@pytest.mark.parametrize("language", FORMS)
def test_forms_of_a_word_are_one_term(language: str) -> None:
    terms = Analyzer(language).analyse(FORMS[language])

    assert len(terms) == 2
    assert len(set(terms)) == 1


def test_simple_neither_stems_nor_stops() -> None:
    assert SIMPLE.analyse("The Runners were Running") == ["the", "runners", "were", "running"]
    assert SIMPLE.stop_words == frozenset()


@pytest.mark.parametrize("language", ["klingon", "", "English", "../english"])
def test_unknown_language_is_refused_with_the_list(language: str) -> None:
    with pytest.raises(ConfigError, match=r"unknown text language .*danish.*simple"):
        Analyzer(language)


@pytest.mark.parametrize("language", languages())
def test_stop_words_are_those_of_snowball(language: str) -> None:
    other = {"porter": "english", "dutch_porter": "dutch"}.get(language, language)

    assert len(Analyzer(language).stop_words) == WITH_STOP_WORDS.get(other, 0)


def test_stop_words_go_out_and_the_ends_of_contractions() -> None:
    assert ENGLISH.analyse("I'm not the one; they'd say: don't! You're it’s") == ["one", "say", "don"]


def test_stop_words_of_ones_own_replace_the_list() -> None:
    analyzer = Analyzer("english", ["SHOES", "stra\u00dfe", "can't"])

    assert analyzer.stop_words == {"shoes", "strasse", "t"}
    assert analyzer.analyse("the shoes of a shoe, STRASSE, can't") == ["the", "of", "a", "shoe", "can"]
    assert Analyzer("english", []).analyse("the") == ["the"]


@pytest.mark.parametrize("stop_words", ["the", ["new york"], ["--"], [""], [3], [None]])
def test_stop_words_that_are_no_words_are_refused(stop_words: list[str]) -> None:
    with pytest.raises(ConfigError, match="stop_words"):
        Analyzer("english", stop_words)


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("covid19 snake_case 2023 a-b", ["covid19", "snake_case", "2023", "a", "b"]),
        ("東京都", ["東京", "京都"]),
        ("東", ["東"]),
        ("Python言語v2", ["python", "言語", "v2"]),
        ("ひらがなカタカナ", ["ひら", "らが", "がな", "なカ", "カタ", "タカ", "カナ"]),
        ("コーヒー", ["コー", "ーヒ", "ヒー"]),
        ("ｶﾞｷﾞ", ["ガギ"]),
        ("葛\U000e0100城", ["葛城"]),
        ("한국어를 배우다", ["한국어를", "배우다"]),
        ("e\u0301cole ÉCOLE", ["école", "école"]),
        ("ﬁne Ｗｉｄｅ x² ½ ⑴", ["fine", "wide", "x2", "1", "2", "1"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("İstanbul", ["istanbul"]),
        ("co\u00adoperate", ["cooperate"]),
        ("a\u200db می\u200cرود", ["ab", "میرود"]),
        ("हिन्दी", ["हिन्दी"]),
        ("\u0301 \u200d \u00ad 1\ufe0f\u20e3", ["1"]),
        ("a\ud800b\udfffc\x00d\x1be", ["a", "b", "c", "d", "e"]),
        ("", []),
        (" \n\t.,;!?—…", []),
    ],
)
def test_terms_of_a_text(text: str, terms: list[str]) -> None:
    assert SIMPLE.analyse(text) == terms
    assert [term for term, _, _ in SIMPLE.spans(text)] == terms


def test_words_of_more_than_255_bytes_are_dropped() -> None:
    assert SIMPLE.analyse(f"a {'x' * 255} {'y' * 256} b") == ["a", "x" * 255, "b"]
    assert SIMPLE.analyse(f"{'é' * 127} {'é' * 128}") == ["é" * 127]
    # Bigrams are no long words.
    assert len(SIMPLE.analyse("東" * 1000)) == 999


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("the Running  SHOES’ e\u0301tat", ["Running", "SHOES", "e\u0301tat"]),
        ("Python言語", ["Python", "言語"]),
        ("xｶﾞｷﾞｸﾞ", ["x", "ｶﾞｷﾞ", "ｷﾞｸﾞ"]),
        ("½", ["½", "½"]),
        ("\ud800İstanbul\ud800", ["İstanbul"]),
        ("co\u00adoperate", ["co\u00adoperate"]),
        ("\u1112\u1161\u11ab\u1100\u116e\u11a8", ["\u1112\u1161\u11ab\u1100\u116e\u11a8"]),
    ],
)
def test_spans_hold_the_original_words(text: str, words: list[str]) -> None:
    assert [text[start:end] for _, start, end in ENGLISH.spans(text)] == words


ALPHABET = st.one_of(
    st.characters(), st.sampled_from("aAiIİſßﬁé\u0301\u0307\u200c\u200d\u00ad\ufe0f東京カｶﾞ한½²ΣςǰǱ‘’ \n._-\ud800\x00")
)


@given(st.text(ALPHABET, max_size=60))
def test_spans_give_the_terms_of_the_text_in_order(text: str) -> None:
    for analyzer in (ENGLISH, SIMPLE):
        spans = analyzer.spans(text)

        assert [term for term, _, _ in spans] == analyzer.analyse(text)
        assert all(0 <= start < end <= len(text) for _, start, end in spans)
        assert [start for _, start, _ in spans] == sorted(start for _, start, _ in spans)


@given(st.text(ALPHABET, max_size=60))
def test_composed_and_decomposed_texts_have_the_same_terms(text: str) -> None:
    composed = unicodedata.normalize("NFC", text)

    assert SIMPLE.analyse(composed) == SIMPLE.analyse(unicodedata.normalize("NFD", composed))


@given(st.text(st.characters(max_codepoint=127), max_size=80))
def test_ascii_text_has_the_same_terms_beside_other_characters(text: str) -> None:
    assert ENGLISH.analyse(text + " —") == ENGLISH.analyse(text)


def test_terms_are_bounded_when_each_word_is_new() -> None:
    analyzer = Analyzer("english")

    for start in range(0, 3 * CACHED_TOKENS, 10_000):
        analyzer.analyse(" ".join(map(str, range(start, start + 10_000))))

    assert len(analyzer._cache) <= CACHED_TOKENS
    assert analyzer.analyse("7 running") == ["7", "run"]


@pytest.mark.parametrize(
    "text", ["x" * 10_000_000, "東" * 500_000, "a\u0301" * 500_000, "ｶﾞ" * 200_000, "a\x00" * 500_000]
)
def test_long_runs_are_analysed(text: str) -> None:
    expected = {"x": 0, "東": 499_999, "ｶ": 199_999}.get(text[0], 0 if text[1] == "\u0301" else 500_000)

    assert sum(1 for _ in Analyzer("simple").iterate(text)) == expected


def test_threads_share_an_analyzer() -> None:
    """A stemmer of PyStemmer works in memory of its own, and is not made for two threads at once."""
    rng = random.Random(1)
    words = [
        rng.choice(["run", "connect", "relat", "generous"]) + rng.choice(["ing", "ion", "ly", ""]) for _ in range(64)
    ]
    texts = [" ".join(f"{rng.choice(words)}{i}x {rng.choice(words)}" for i in range(t, t + 400)) for t in range(8)]
    expected = [Analyzer("english").analyse(text) for text in texts]
    shared = Analyzer("english")
    found: list[list[str]] = [[]] * 8

    def work(i: int) -> None:
        found[i] = shared.analyse(texts[i])

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)

    assert found == expected


def test_importing_loads_no_stemmer() -> None:
    code = "import sys, kektordb.text, kektordb._vocabulary; print('Stemmer' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "False"


def test_normalising_twice_changes_nothing() -> None:
    for code in range(0x110000):
        token = chr(code)
        if token.isalnum():
            assert normalised(normalised(token)) == normalised(token), hex(code)


def test_joiners_in_a_run_of_han_are_no_term() -> None:
    """Found by the fuzzer: a bigram of nothing but non-joiners."""
    analyzer = Analyzer("simple")
    text = "\u4e2d\u200c\u200c\u200c\u6587"
    assert "" not in analyzer.analyse(text)
    assert [term for term, _, _ in analyzer.spans(text)] == analyzer.analyse(text)
