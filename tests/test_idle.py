"""Is it seen that the other side of an idle connection has closed, or sent something, it was not asked for?"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from kektordb.idle import has_come


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        yield one, other


def test_nothing_came_over_a_connection_that_rests(pair: tuple[socket.socket, socket.socket]) -> None:
    assert not has_come(pair[0])


def test_bytes_and_an_end_are_seen(pair: tuple[socket.socket, socket.socket]) -> None:
    one, other = pair
    other.send(b"x")
    assert has_come(one)
    assert one.recv(1) == b"x"
    assert not has_come(one)

    other.close()
    assert has_come(one)


def test_a_socket_that_is_closed_here_is_of_no_use(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[0].close()
    assert has_come(pair[0])


def test_the_thousandth_file_of_a_process_is_as_good_as_the_first(pair: tuple[socket.socket, socket.socket]) -> None:
    fcntl = pytest.importorskip("fcntl")
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2048:
        pytest.skip("no more than 2,048 files may be open")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
    try:
        with socket.socket(fileno=fcntl.fcntl(pair[0], fcntl.F_DUPFD, 1500)) as late:
            assert late.fileno() >= 1500
            assert not has_come(late)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
