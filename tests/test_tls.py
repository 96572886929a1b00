"""HTTPS: clients and followers ask a server behind TLS, and nobody else; which port an address means."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live import live

import kektordb
from kektordb import cli
from kektordb.addresses import port_of, tls_context
from kektordb.errors import ConfigError, ServerUnreachable, StorageError
from kektordb.remote import connect
from kektordb.remote.transport import Transport
from kektordb.replicas.http_source import HttpSource
from kektordb.server import Options

TOKEN = "secret"
OPENSSL = shutil.which("openssl")


def certificate(folder: Path, name: str, alternatives: str) -> tuple[Path, Path]:
    """Make a self-signed certificate; return the files of it and of its key."""
    assert OPENSSL is not None
    found = folder / f"{name}.pem", folder / f"{name}.key"
    command = [OPENSSL, "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-days", "2", "-subj", f"/CN={name}", "-addext", f"subjectAltName={alternatives}"]
    subprocess.run([*command, "-out", found[0], "-keyout", found[1]], check=True, capture_output=True)
    return found


class Front:
    """Adds TLS to a server, as a proxy does, and counts what it let through."""

    def __init__(self, port: int, pem: Path, key: Path) -> None:
        self._port = port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pem, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.n_bytes = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near:
            safe = self._context.wrap_socket(near, server_side=True)
            with safe, socket.create_connection(("127.0.0.1", self._port)) as far:
                back = threading.Thread(target=self._carry, args=(far, safe), daemon=True)
                back.start()
                try:
                    while data := safe.recv(65_536):
                        self.n_bytes += len(data)
                        far.sendall(data)
                finally:
                    # What is closed under a thread that reads it may have become another file.
                    with contextlib.suppress(OSError):
                        far.shutdown(socket.SHUT_RDWR)
                    back.join()

    def _carry(self, far: socket.socket, safe: ssl.SSLSocket) -> None:
        with contextlib.suppress(OSError, ValueError):
            while data := far.recv(65_536):
                safe.sendall(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class World:
    """A server behind TLS with a certificate for localhost, and the same one with a certificate for another name."""

    def __init__(self, folder: Path, port: int) -> None:
        self.ca, key = certificate(folder, "localhost", "DNS:localhost")
        self.other_ca, other_key = certificate(folder, "elsewhere.example", "DNS:elsewhere.example")
        self.front, self.other = Front(port, self.ca, key), Front(port, self.other_ca, other_key)
        self.url = f"https://localhost:{self.front.port}"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if OPENSSL is None:
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    with (
        kektordb.open(folder / "db", autosave="", sync="no") as database,
        live(database, Options(token=TOKEN)) as url,
    ):
        database.create_index("a", dim=2).add("p", [1, 0])
        world = World(folder, int(url.rpartition(":")[2]))
        yield world
        world.front.close()
        world.other.close()


def test_a_certificate_that_is_trusted_lets_all_pass(world: World) -> None:
    with connect(world.url, token=TOKEN, ca_file=world.ca) as db:
        assert db["a"].search([1, 0], k=1).ids == ["p"]
        db["a"].upsert_batch([f"n{i}" for i in range(500)], [[1, i] for i in range(500)])
        assert len(db["a"]) == 501

    async def ask() -> list[str]:
        async with kektordb.connect_async(world.url, token=TOKEN, ca_file=str(world.ca)) as db:
            return await db.indexes()

    assert asyncio.run(ask()) == ["a"]


def test_the_environment_names_authorities_as_for_other_programs(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(world.ca))
    with connect(world.url, token=TOKEN) as db:
        assert list(db) == ["a"]


def assert_unreachable(url: str, *, match: str = "cannot reach", **options: Any) -> None:
    db = connect(url, retries=0, **options)
    with db, pytest.raises(ServerUnreachable, match=match):
        list(db)


WAYS: dict[str, Callable[[World], dict[str, Any]]] = {
    "by default": lambda world: {},
    "with another authority": lambda world: {"ca_file": world.other_ca},
}


@pytest.mark.parametrize("way", WAYS)
def test_who_cannot_show_a_certificate_is_not_told_the_token(world: World, way: str) -> None:
    before = world.front.n_bytes
    assert_unreachable(world.url, token=TOKEN, **WAYS[way](world), match="certificate")
    with HttpSource(world.url, TOKEN, **WAYS[way](world)) as source, pytest.raises(StorageError, match="certificate"):
        source.probe()
    assert world.front.n_bytes == before


def test_the_name_in_the_certificate_is_that_of_the_address(world: World) -> None:
    url = f"https://localhost:{world.other.port}"
    assert_unreachable(url, token=TOKEN, ca_file=world.other_ca, match=r"[Hh]ostname")
    with HttpSource(url, TOKEN, ca_file=world.other_ca) as source, pytest.raises(StorageError, match=r"[Hh]ostname"):
        source.probe()
    assert world.other.n_bytes == 0


def test_only_who_says_so_trusts_anybody(world: World) -> None:
    with connect(world.url, token=TOKEN, verify=False) as db:
        assert list(db) == ["a"]
    with HttpSource(world.url, TOKEN, verify=False) as source:
        source.probe()


def test_https_where_http_is_spoken_and_the_other_way_round(world: World) -> None:
    assert_unreachable(f"https://localhost:{world.front._port}", token=TOKEN, ca_file=world.ca)
    assert_unreachable(f"http://localhost:{world.front.port}", token=TOKEN)


def test_a_follower_over_tls(world: World, tmp_path: Path) -> None:
    source = HttpSource(world.url, TOKEN, ca_file=world.ca)
    with kektordb.open(tmp_path / "copy", follow=source, follow_interval=0) as copy:
        copy.refresh()
        assert copy["a"]["p"].id == "p"


def test_a_new_follower_that_cannot_verify_makes_nothing(world: World, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="certificate"):
        kektordb.open(tmp_path / "copy", follow=HttpSource(world.url, TOKEN))
    assert not (tmp_path / "copy").exists()


def test_the_command_line_takes_certificates(world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "token").write_text(TOKEN)
    options = ["--token-file", str(tmp_path / "token"), "--vector", "1,0", "-k", "1"]
    assert cli.main(["search", world.url, "a", *options, "--ca-file", str(world.ca)]) == 0
    assert cli.main(["search", world.url, "a", *options]) == 3
    assert "certificate" in capsys.readouterr().err
    assert cli.main(["search", str(tmp_path), "a", *options, "--ca-file", str(world.ca)]) == 3
    copy = ["import", str(tmp_path / "new"), "--from", world.url, "--from-token-file", str(tmp_path / "token")]
    assert cli.main([*copy, "--from-ca-file", str(world.ca)]) == 0


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://localhost", {"ca_file": "x"}),
        ("http://localhost", {"verify": False}),
        ("https://localhost", {"ca_file": "/nowhere/x.pem"}),
        ("https://localhost", {"ca_file": __file__}),
        ("https://localhost", {"ca_file": 7}),
        ("https://localhost", {"verify": None}),
        ("https://localhost", {"verify": "ca.pem"}),
        ("https://localhost", {"verify": 0}),
    ],
)
def test_options_that_make_no_sense_are_refused(url: str, options: dict[str, Any]) -> None:
    for make in (connect, HttpSource, kektordb.connect_async):
        with pytest.raises(ConfigError):
            make(url, token=TOKEN, **options)  # type: ignore[operator]


def test_certificates_that_cannot_be_read_are_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere/x\.pem"):
        connect("https://localhost", token=TOKEN, ca_file="/nowhere/x.pem")


def test_an_address_without_a_port_means_the_same_to_all() -> None:
    for url, port in (
        ("http://db.example", 9091),
        ("https://db.example", 443),
        ("http://db.example:80", 80),
        ("https://db.example:9091/below", 9091),
    ):
        assert Transport(url)._port == HttpSource(url)._port == port
    assert (port_of(False, None), port_of(True, None)) == (9091, 443)
    assert tls_context(False, None, True) is None
    context = tls_context(True, None, True)
    assert context is not None
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
