"""Every embedder answers with checked vectors, in batches and threads, and says what it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from kektordb.embed import BatchingEmbedder, CallableEmbedder, Embedder, HashingEmbedder, Retrying, as_embedder
from kektordb.errors import ConfigError, EmbedderError

GOLDEN_SHOE = [-0.6708204, 0.0, -0.2236068, -0.4472136, 0.0, -0.4472136, 0.2236068, -0.2236068]
GOLDEN_STREET = [0.0, 0.3015114, 0.0, 0.0, -0.9045340, 0.0, 0.0, 0.3015114]


def lengths(texts: list[str]) -> list[list[float]]:
    return [[len(text), 1.0] for text in texts]


# ------------------------------------------------------------------------------------------------------------- hashing


def test_hashing_gives_the_same_vectors_for_ever() -> None:
    """They are compared with stored ones: another formula would need another name."""
    rows = HashingEmbedder(8).embed_documents(["The red shoe", "", "Straße"])

    expected = [GOLDEN_SHOE, [0.0] * 8, GOLDEN_STREET]
    np.testing.assert_allclose(rows, expected, atol=1e-6)
    assert rows.dtype == np.float32
    assert rows.shape == (3, 8)


def test_hashing_puts_texts_with_common_words_together() -> None:
    embedder = HashingEmbedder()
    texts = ["reset your password in the settings", "the weather is nice today", "bake bread with yeast"]
    documents = embedder.embed_documents(texts)

    found = np.argmax(documents @ embedder.embed_query("how do I reset the password?"))

    assert found == 0
    assert np.argmax(documents @ embedder.embed_query("baking breads")) == 2
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1.0, rtol=1e-6)


def test_hashing_takes_any_text() -> None:
    rows = HashingEmbedder(16).embed_documents(["\ud800", "\0", "x" * 100_000, "日本語 العربية"])

    assert np.isfinite(rows).all()


# ------------------------------------------------------------------------------------------------------------ choosing


def test_a_name_chooses_an_embedder() -> None:
    embedder = as_embedder("hashing:64")

    assert (embedder.name, embedder.dim) == ("hashing:64", 64)
    assert as_embedder("hashing").dim == 256
    assert isinstance(embedder, Embedder)
    assert as_embedder(embedder) is embedder


@pytest.mark.parametrize("given", ["", "nothing", "nothing:x", "hashing:x", "hashing:0", "hashing:99999999", 5, None])
def test_what_is_no_embedder_is_refused(given: Any) -> None:
    with pytest.raises(ConfigError):
        as_embedder(given)


def test_options_that_are_not_known_are_refused_without_their_values() -> None:
    with pytest.raises(ConfigError, match="wrong") as caught:
        as_embedder("hashing:8", wrong="s3cret")

    assert "s3cret" not in str(caught.value)
    with pytest.raises(ConfigError, match="batch_size"):
        as_embedder(HashingEmbedder(8), batch_size=1)


def test_a_function_is_an_embedder() -> None:
    embedder = as_embedder(lengths)

    assert embedder.name == "callable:lengths"
    assert embedder.dim is None
    assert embedder.embed_documents(["a", "bcd"]).tolist() == [[1, 1], [3, 1]]
    assert embedder.embed_query("ab").tolist() == [2, 1]
    assert embedder.dim == 2
    assert as_embedder(lengths, name="mine").name == "mine"


def test_an_object_with_the_methods_is_an_embedder_and_checked() -> None:
    class Foreign:
        def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
            return lengths(list(texts))

        def embed_query(self, text: str) -> list[float]:
            return [0.0] if text == "short" else [7.0, float("nan") if text == "bad" else 1.0]

    embedder = as_embedder(Foreign())  # type: ignore[arg-type]

    assert embedder.name == "callable:Foreign"
    assert embedder.embed_documents(["abc"]).tolist() == [[3, 1]]
    assert embedder.embed_query("x").tolist() == [7, 1]
    for wrong in ("short", "bad"):
        with pytest.raises(EmbedderError):
            embedder.embed_query(wrong)


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([[1.0, 2.0]], "2 texts"),
        ([1.0, 2.0], "2 texts"),
        ([[1.0], [1.0, 2.0]], "no matrix"),
        ([["x"], ["y"]], "no matrix"),
        (None, "no|with"),
        ([[], []], "0 dimensions"),
        ([[1.0, np.nan], [0.0, 0.0]], "finite"),
        ([[1.0, np.inf], [0.0, 0.0]], "finite"),
        ([[1e300, 0.0], [0.0, 0.0]], "finite"),
        (np.zeros((2, 2, 2)), "2 texts"),
        (np.zeros((2, 70_000)), "70000 dimensions"),
    ],
)
def test_a_wrong_answer_is_a_permanent_error(answer: Any, words: str) -> None:
    embedder = as_embedder(lambda texts: answer, name="bad")

    with pytest.raises(EmbedderError, match=words) as caught:
        embedder.embed_documents(["a", "b"])

    assert caught.value.permanent
    assert "bad" in str(caught.value)
    assert embedder.dim is None


def test_the_first_answer_decides_the_dimension_and_others_are_refused() -> None:
    sizes = iter([2, 3, 2])
    embedder = CallableEmbedder(lambda texts: np.zeros((len(texts), next(sizes))), name="m")
    embedder.embed_documents(["a"])

    with pytest.raises(EmbedderError, match="3 dimensions, expected 2") as caught:
        embedder.embed_documents(["a"])

    assert caught.value.permanent
    assert embedder.embed_documents(["a"]).shape == (1, 2)


def test_a_learned_dimension_can_be_forgotten_and_a_stated_one_not() -> None:
    learned, stated = CallableEmbedder(lengths), CallableEmbedder(lengths, dim=2)
    learned.embed_query("a")

    learned.unlearn()
    stated.unlearn()

    assert (learned.dim, stated.dim) == (None, 2)
    with pytest.raises(EmbedderError, match="expected 3"):
        CallableEmbedder(lengths, dim=3).embed_documents(["a"])


def test_no_texts_are_no_question() -> None:
    def never(texts: list[str]) -> npt.ArrayLike:
        raise AssertionError("asked")

    assert as_embedder(never).embed_documents([]).shape == (0, 0)
    assert HashingEmbedder(8).embed_documents([]).shape == (0, 8)


@pytest.mark.parametrize("texts", ["text", b"text", 5, None, [b"x"], ["a", None], [1]])
def test_what_is_no_text_is_refused(texts: Any) -> None:
    with pytest.raises(ConfigError):
        HashingEmbedder(8).embed_documents(texts)
    with pytest.raises(ConfigError):
        HashingEmbedder(8).embed_query(["a"])  # type: ignore[arg-type]


@pytest.mark.parametrize("answer", [[], None, 5, [[]], (x for x in [1]), [[1.0], [2.0]]])
def test_a_wrong_answer_to_a_query_is_a_permanent_error_too(answer: Any) -> None:
    with pytest.raises(EmbedderError) as caught:
        as_embedder(lambda texts: answer, name="m").embed_query("a")
    assert caught.value.permanent


# ------------------------------------------------------------------------------------------------- batches and threads


def test_texts_go_in_batches_and_come_back_in_order() -> None:
    seen: list[int] = []

    def embed(texts: list[str]) -> npt.ArrayLike:
        seen.append(len(texts))
        return [[float(text)] for text in texts]

    for concurrency in (1, 4):
        seen.clear()
        embedder = CallableEmbedder(embed, batch_size=7, concurrency=concurrency)
        rows = embedder.embed_documents([str(i) for i in range(31)])

        assert sorted(seen) == [3, 7, 7, 7, 7]
        assert rows[:, 0].tolist() == list(range(31))


def test_as_many_batches_at_a_time_as_said() -> None:
    """A barrier of three can only be passed when three are there at once."""
    barrier = threading.Barrier(3, timeout=30)

    def embed(texts: list[str]) -> npt.ArrayLike:
        barrier.wait()
        return [[1.0]] * len(texts)

    embedder = CallableEmbedder(embed, batch_size=1, concurrency=3)

    assert embedder.embed_documents(["a"] * 6).shape == (6, 1)


def test_one_batch_that_fails_fails_the_call_and_stops_the_rest() -> None:
    asked = []
    over = threading.Event()

    def embed(texts: list[str]) -> npt.ArrayLike:
        asked.append(texts[0])
        if texts[0] == "3":
            raise EmbedderError("down", permanent=True)
        if int(texts[0]) > 3:
            over.wait(30)
        return [[1.0]] * len(texts)

    embedder = CallableEmbedder(embed, batch_size=1, concurrency=2)

    with pytest.raises(EmbedderError, match="down"):
        embedder.embed_documents([str(i) for i in range(1000)])
    over.set()
    assert len(asked) <= 6


def test_threads_that_disagree_on_the_first_dimension_do_not_both_win() -> None:
    barrier = threading.Barrier(2, timeout=30)

    def embed(texts: list[str]) -> npt.ArrayLike:
        barrier.wait()
        return np.zeros((1, int(texts[0])))

    embedder = CallableEmbedder(embed, batch_size=1, concurrency=2)

    with pytest.raises(EmbedderError, match="dimensions"):
        embedder.embed_documents(["2", "3"])


def test_prefixes_are_put_before_texts_and_part_of_the_identity() -> None:
    embedder = CallableEmbedder(lengths, name="m", document_prefix="doc: ", query_prefix="q: ")

    assert embedder.embed_documents(["abc"])[0, 0] == 8
    assert embedder.embed_query("abc")[0] == 6
    assert embedder.name == "m"
    assert embedder.identity != CallableEmbedder(lengths, name="m").identity


@pytest.mark.parametrize(
    "options",
    [
        *({"batch_size": 0}, {"batch_size": True}, {"concurrency": "2"}, {"dim": 0}, {"dim": 1.5}),
        *({"name": ""}, {"name": "a\nb"}, {"name": "x" * 513}, {"document_prefix": 1}, {"retries": -1}),
        *({"retries": True}, {"query": 5}),
    ],
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CallableEmbedder(lengths, **options)


# ------------------------------------------------------------------------------------------------------------- retries


class Flaky:
    """Fails as often as it is told to."""

    def __init__(self, errors: list[Exception]) -> None:
        self.errors = errors
        self.n_calls = 0

    def __call__(self, texts: list[str]) -> npt.ArrayLike:
        self.n_calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return lengths(texts)


def test_temporary_errors_are_tried_again_after_growing_waits() -> None:
    waits: list[float] = []
    retrying = Retrying(5, 1.0, 4.0, sleep=waits.append, chance=lambda: 1.0)
    flaky = Flaky([EmbedderError("busy", retry_after_s=9.0), *(ConnectionError("no") for _ in range(4))])

    rows = CallableEmbedder(flaky, retrying=retrying).embed_documents(["abc"])

    assert rows.tolist() == [[3, 1]]
    assert flaky.n_calls == 6
    assert waits == [9, 2, 4, 4, 4]


def test_waits_vary_by_chance_and_a_service_is_not_believed_for_ever() -> None:
    waits: list[float] = []
    retrying = Retrying(2, 1.0, 30.0, sleep=waits.append, chance=lambda: 0.0)
    flaky = Flaky([ConnectionError("no"), EmbedderError("busy", retry_after_s=1e9)])

    CallableEmbedder(flaky, retrying=retrying).embed_documents(["abc"])

    assert waits == [0.5, 60]


def test_a_permanent_error_is_not_tried_again() -> None:
    flaky = Flaky([EmbedderError("refused", permanent=True)])
    embedder = CallableEmbedder(flaky, retrying=Retrying(9, sleep=lambda seconds: None))

    with pytest.raises(EmbedderError, match="refused"):
        embedder.embed_documents(["a"])
    assert flaky.n_calls == 1


def test_after_the_last_try_the_error_is_temporary_and_names_its_cause() -> None:
    flaky = Flaky([ValueError(f"number {i}") for i in range(9)])
    embedder = CallableEmbedder(flaky, name="m", retrying=Retrying(2, sleep=lambda seconds: None))

    with pytest.raises(EmbedderError, match="m failed with ValueError: number 2") as caught:
        embedder.embed_query("a")

    assert not caught.value.permanent
    assert isinstance(caught.value.__cause__, ValueError)


def test_words_of_others_lose_what_looks_like_a_secret() -> None:
    said = "401 for https://x/v1?key=AAAA and Authorization: Bearer BBBB sk-CCCC token=DDDD"
    embedder = CallableEmbedder(Flaky([RuntimeError(said)]), name="m")

    with pytest.raises(EmbedderError) as caught:
        embedder.embed_query("a")

    for secret in ("AAAA", "BBBB", "CCCC", "DDDD"):
        assert secret not in str(caught.value)
    assert "401" in str(caught.value)


def test_ctrl_c_is_not_an_error_of_the_embedder() -> None:
    def embed(texts: list[str]) -> npt.ArrayLike:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        CallableEmbedder(embed).embed_query("a")


def test_a_subclass_says_only_how_a_batch_is_embedded() -> None:
    class Mine(BatchingEmbedder):
        def _documents(self, texts: list[str]) -> Any:
            return lengths(texts)

    assert Mine("mine").embed_query("abcd").tolist() == [4, 1]
    assert repr(Mine("mine")) == "<Mine 'mine'>"
