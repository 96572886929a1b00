"""Services are asked as their documentation says, and believed only as far as their answers can be used."""

from __future__ import annotations

import base64
import os
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from services import Asked, Service, serving

from kektordb.embed import OllamaEmbedder, OpenAIEmbedder, Retrying, as_embedder
from kektordb.errors import ConfigError, EmbedderError

OK: dict[str, str] = {}
NOW = Retrying(3, sleep=lambda seconds: None)


def vector(text: str) -> list[float]:
    return [float(len(text)), 1.0, -0.5]


def as_ollama(asked: Asked) -> tuple[int, dict[str, str], Any]:
    """Answer as Ollama since 0.2 does."""
    if asked.path != "/api/embed":
        return 404, OK, b"404 page not found"
    if asked.body["model"] != "nomic":
        return 404, OK, {"error": f"model {asked.body['model']!r} not found"}
    return 200, OK, {"model": "nomic", "embeddings": [vector(text) for text in asked.body["input"]]}


def as_old_ollama(asked: Asked) -> tuple[int, dict[str, str], Any]:
    """Answer as Ollama did before that: one text, a vector of any length."""
    if asked.path != "/api/embeddings":
        return 404, OK, b"404 page not found"
    return 200, OK, {"embedding": [3.0 * len(asked.body["prompt"]), 4.0 * len(asked.body["prompt"])]}


def as_openai(asked: Asked) -> tuple[int, dict[str, str], Any]:
    """Answer as OpenAI does, but with the rows in another order, which it does not exclude."""
    rows: list[dict[str, Any]] = []
    for index, text in enumerate(asked.body["input"]):
        numbers: Any = vector(text)
        if asked.body["encoding_format"] == "base64":
            numbers = base64.b64encode(np.array(numbers, "<f4").tobytes()).decode()
        rows.append({"object": "embedding", "index": index, "embedding": numbers})
    return 200, OK, {"object": "list", "data": rows[::-1], "model": "m", "usage": {"total_tokens": 1}}


def openai(service: Service, **options: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder("m", url=service.url + "/v1", **{"retrying": NOW, **options})


# -------------------------------------------------------------------------------------------------------------- ollama


def test_ollama_is_asked_for_many_texts_at_once() -> None:
    with serving(as_ollama) as service:
        embedder = as_embedder("ollama:nomic", url=service.url, batch_size=2, keep_alive="1h")

        rows = embedder.embed_documents(["a", "bb", "ccc"])

        assert rows.tolist() == [vector("a"), vector("bb"), vector("ccc")]
        assert embedder.embed_query("dddd").tolist() == vector("dddd")
    assert [asked.path for asked in service.asked] == ["/api/embed"] * 3
    assert service.asked[0].body == {"model": "nomic", "input": ["a", "bb"], "keep_alive": "1h"}
    assert (embedder.name, embedder.dim) == ("ollama:nomic", 3)
    assert service.n_connections == 1


def test_an_older_ollama_is_asked_text_by_text_and_its_vectors_become_units() -> None:
    with serving(as_old_ollama) as service:
        embedder = OllamaEmbedder("nomic", url=service.url)

        rows = embedder.embed_documents(["a", "bb"])
        embedder.embed_documents(["c"])

    np.testing.assert_allclose(rows, [[0.6, 0.8]] * 2, rtol=1e-6)
    paths = [asked.path for asked in service.asked]
    assert paths == ["/api/embed", *["/api/embeddings"] * 3]
    assert service.asked[1].body == {"model": "nomic", "prompt": "a"}


def test_a_model_that_ollama_has_not_is_a_permanent_error() -> None:
    with serving(as_ollama) as service:
        embedder = OllamaEmbedder("other", url=service.url, retrying=NOW)
        with pytest.raises(EmbedderError, match="404") as caught:
            embedder.embed_documents(["a"])
        assert caught.value.permanent

        # When it is pulled meanwhile, the newer route is asked again.
        embedder.model = "nomic"
        assert embedder.embed_documents(["a"]).shape == (1, 3)


# -------------------------------------------------------------------------------------------------------------- openai


@pytest.mark.parametrize("in_base64", [True, False])
def test_openai_rows_are_put_in_order_by_their_index(in_base64: bool) -> None:
    with serving(as_openai) as service:
        embedder = openai(service, base64=in_base64, batch_size=2, concurrency=3)

        rows = embedder.embed_documents(["a", "bb", "ccc", "dddd", "eeeee"])

    assert rows.tolist() == [vector("a" * n) for n in range(1, 6)]
    assert {asked.path for asked in service.asked} == {"/v1/embeddings"}
    assert {asked.body["encoding_format"] for asked in service.asked} == {"base64" if in_base64 else "float"}
    assert sorted(len(asked.body["input"]) for asked in service.asked) == [1, 2, 2]


def test_a_service_that_does_not_know_base64_is_understood() -> None:
    def answer(asked: Asked) -> Any:
        return as_openai(Asked(asked.path, asked.headers, asked.body | {"encoding_format": "float"}))

    with serving(answer) as service:
        assert openai(service).embed_query("abc").tolist() == vector("abc")


def test_fewer_dimensions_are_asked_for_and_expected() -> None:
    with serving(as_openai) as service:
        embedder = openai(service, dimensions=3)
        embedder.embed_query("a")
        assert service.asked[0].body["dimensions"] == 3
        assert embedder.dim == 3
        with pytest.raises(EmbedderError, match="expected 2"):
            openai(service, dimensions=2).embed_query("a")
    assert embedder.identity != OpenAIEmbedder("m", url="http://x").identity


@pytest.mark.parametrize(
    "data",
    [
        [],
        [{"index": 1, "embedding": [1.0]}],
        [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}],
        [{"index": 0, "embedding": "!!!!"}],
        [{"index": 0, "embedding": "AAA="}],
        [{"index": 0, "embedding": ""}],
        [{"index": 0, "embedding": []}],
        [{"index": 0, "embedding": None}],
        [{"index": 0, "embedding": base64.b64encode(np.array([np.nan], "<f4").tobytes()).decode()}],
        [{"index": "0", "embedding": [1.0]}],
        [{"embedding": [1.0]}],
        {"0": [1.0]},
    ],
)
def test_an_answer_of_another_form_is_a_permanent_error(data: Any) -> None:
    with serving(lambda asked: (200, OK, {"data": data})) as service:
        with pytest.raises(EmbedderError) as caught:
            openai(service).embed_documents(["a"])
        assert caught.value.permanent
    assert len(service.asked) == 1


# ---------------------------------------------------------------------------------------------------------- what fails


def failing(*answers: Any) -> Iterator[Any]:
    yield from answers


def test_what_may_be_over_is_tried_again() -> None:
    answers = failing(
        (503, OK, b"starting"),
        (429, {"retry-after": "7"}, {"error": {"message": "slow down"}}),
        None,
        (200, OK, b"<html>a proxy</html>"),
        (500, OK, {"error": "out of memory"}),
    )
    waits: list[float] = []

    def answer(asked: Asked) -> Any:
        return next(answers, as_openai(asked))

    with serving(answer) as service:
        retrying = Retrying(9, 1.0, 2.0, sleep=waits.append, chance=lambda: 0.0)
        rows = openai(service, retrying=retrying).embed_documents(["abc"])

    assert rows.tolist() == [vector("abc")]
    assert waits == [0.5, 7, 1, 1, 1]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_not_tried_again_and_says_why(status: int) -> None:
    with serving(lambda asked: (status, OK, {"error": {"message": "input is too long"}})) as service:
        with pytest.raises(EmbedderError, match=f"status {status}.*input is too long") as caught:
            openai(service).embed_documents(["a"])
        assert caught.value.permanent
        assert caught.value.status == status
    assert len(service.asked) == 1


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 100_000, b"null", b'{"error": ', b'"text"', b"5"])
def test_any_words_of_an_error_are_survived(body: bytes) -> None:
    with serving(lambda asked: (500, OK, body)) as service:
        with pytest.raises(EmbedderError, match="status 500") as caught:
            openai(service).embed_documents(["a"])
        assert len(str(caught.value)) < 500
    assert len(service.asked) == 4


@pytest.mark.parametrize("body", [b"", b"\xff\xfe", b"[" * 100_000, b"{}", b"null", b'{"data": 5}', b'{"data": [NaN]}'])
def test_garbage_gives_no_vectors(body: bytes) -> None:
    with serving(lambda asked: (200, OK, body)) as service, pytest.raises(EmbedderError):
        openai(service).embed_documents(["a"])


def test_redirects_are_not_followed() -> None:
    with serving(as_openai) as other:

        def away(asked: Asked) -> Any:
            return 307, {"location": other.url + "/v1/embeddings"}, b""

        with serving(away) as service, pytest.raises(EmbedderError, match="redirects") as caught:
            openai(service, api_key="k3y").embed_documents(["a"])
    assert caught.value.permanent
    assert other.asked == []


def test_an_answer_that_says_it_is_too_large_is_not_read() -> None:
    with serving(lambda asked: (200, {"content-length": str(1 << 40)}, b"{")) as service:
        with pytest.raises(EmbedderError, match="more than") as caught:
            openai(service).embed_documents(["a"])
        assert caught.value.permanent
    assert len(service.asked) == 1


def test_an_answer_that_does_not_end_is_given_up() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b" " * 65536

    with serving(lambda asked: (200, {"connection": "close"}, endless())) as service:
        with pytest.raises(EmbedderError, match="more than 1,000,000 bytes") as caught:
            openai(service, max_response_bytes=1_000_000).embed_documents(["a"])
        assert caught.value.permanent


def test_a_head_that_does_not_end_is_given_up() -> None:
    heads = {f"x-{i}": "y" * 60_000 for i in range(90)}
    with serving(lambda asked: (200, heads, b"{}")) as service, pytest.raises(EmbedderError, match="more than"):
        openai(service, max_response_bytes=10_000).embed_documents(["a"])


def test_an_answer_that_does_not_come_is_given_up() -> None:
    def answer(asked: Asked) -> Any:
        service.over.wait(60)
        return None

    with serving(answer) as service, pytest.raises(EmbedderError, match="no answer in time") as caught:
        openai(service, timeout=0.05, retries=0, retrying=None).embed_documents(["a"])
    assert not caught.value.permanent


def test_an_answer_that_drips_is_given_up() -> None:
    """Each byte comes in time, the answer does not."""

    def drips() -> Iterator[bytes]:
        while not service.over.wait(0.01):
            yield b" "

    closing = {"connection": "close"}
    with serving(lambda asked: (200, closing, drips())) as service, pytest.raises(EmbedderError, match="in time"):
        openai(service, timeout=0.2, retrying=Retrying(0)).embed_documents(["a"])


def test_no_service_is_a_temporary_error() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        embedder = OllamaEmbedder("m", url=f"http://127.0.0.1:{port}", retrying=Retrying(0))
        with pytest.raises(EmbedderError, match="cannot be asked") as caught:
            embedder.embed_query("a")
    assert not caught.value.permanent


def test_a_kept_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    def answer(asked: Asked) -> Any:
        status, headers, body = as_openai(asked)
        # It keeps the connection by HTTP/1.1, and closes it all the same.
        return status, headers | {"keep-alive": "timeout=0"}, body

    with serving(answer) as service:
        embedder = openai(service, retrying=Retrying(0))
        embedder.embed_query("a")
        ((_, connection),) = embedder._poster._kept
        connection.sock.shutdown(socket.SHUT_RDWR)

        assert embedder.embed_query("bb").tolist() == vector("bb")
    assert service.n_connections == 2


def test_texts_that_json_cannot_hold_are_a_permanent_error() -> None:
    with serving(as_openai) as service:
        with pytest.raises(EmbedderError, match="cannot be sent") as caught:
            openai(service).embed_documents(["\ud800"])
        assert caught.value.permanent
        assert openai(service).embed_query('\0"\\ \u2028 😀').shape == (3,)


def test_many_threads_share_an_embedder() -> None:
    with serving(as_openai) as service:
        embedder = openai(service, batch_size=3, concurrency=2)
        wrong = []

        def work(n: int) -> None:
            texts = ["x" * (n + i) for i in range(1, 20)]
            for _ in range(5):
                if embedder.embed_documents(texts).tolist() != [vector(text) for text in texts]:
                    wrong.append(n)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_forked_child_has_connections_of_its_own() -> None:
    with serving(as_openai) as service:
        embedder = openai(service)
        embedder.embed_query("a")
        child = os.fork()
        if child == 0:
            status = 1
            try:
                status = 0 if embedder.embed_query("bb").tolist() == vector("bb") else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert embedder.embed_query("ccc").tolist() == vector("ccc")
    assert service.n_connections == 2


# ------------------------------------------------------------------------------------------------------------- secrets


def test_a_key_is_sent_and_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", " s3cret-key\n")

    def echo(asked: Asked) -> Any:
        return 401, OK, {"error": {"message": f"who is {asked.headers['authorization']}? s3cret-key is wrong"}}

    with serving(echo) as service:
        embedder = openai(service, api_key_env="MY_KEY")
        with pytest.raises(EmbedderError, match="is it the key") as caught:
            embedder.embed_documents(["a"])
        assert service.asked[0].headers["authorization"] == "Bearer s3cret-key"
    for shown in (str(caught.value), repr(embedder), repr(embedder._poster), embedder.name, embedder.identity):
        assert "s3cret" not in shown


def test_the_key_of_openai_goes_to_no_other_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret")
    with serving(as_openai) as service:
        openai(service).embed_query("a")
    assert "authorization" not in service.asked[0].headers

    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        as_embedder("openai:text-embedding-3-small")


@pytest.mark.parametrize(
    "options",
    [
        *({"url": url} for url in ("", "ftp://x", "file:///etc/passwd", "http://", "http://u:pw@x", "http://x?k=pw")),
        *({"url": url} for url in ("http://x#pw", "http://x y", "http://x\r\nh: pw", "http://x:99999", 5, None, "x")),
        *({"timeout": 0}, {"timeout": "1"}, {"timeout": True}, {"timeout": float("nan")}, {"max_response_bytes": 0}),
        *({"api_key": "a b"}, {"api_key": ""}, {"api_key": "a\r\nb"}, {"api_key": 5}, {"dimensions": 0}),
        *({"api_key": "a", "api_key_env": "HOME"}, {"api_key_env": "NOT_SET_ANYWHERE"}, {"api_key_env": 5}),
        {"retries": 101},
    ],
)
def test_impossible_options_are_refused_and_not_shown(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        OpenAIEmbedder("m", **{"url": "http://x", **options})
    assert "pw" not in str(caught.value)


def test_a_service_needs_a_model() -> None:
    with pytest.raises(ConfigError):
        as_embedder("ollama:")
    with pytest.raises(ConfigError):
        OllamaEmbedder("")
