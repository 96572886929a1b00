"""The shell: what lines do, on a directory and on a server, from a pipe and at a terminal."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live import live

import kektordb
from kektordb.commands import shell
from kektordb.commands.shell import Shell
from kektordb.commands.typed import Line, LineError
from kektordb.commands.verbs import VERBS, Session, completions
from kektordb.kv import AllKeys
from kektordb.links import RESERVED

ROOT = Path(kektordb.__file__).parent.parent
KEPT = f"{RESERVED}kept"


def fill(database: kektordb.Database) -> None:
    shoes = database.create_index("shoes", metric="euclidean", text_language="english")
    shoes.add("p1", [1.0, 2.0], {"price": 40, "text": "red shoe", "deep": {"x": 1}})
    shoes.add("p 2", [1.0, 3.0], {"price": 90, "text": "blue boot", "odd name": True})
    shoes.add("p'3", [9.0, 9.0], {"price": 10, "text": "red \x1b[31mhat"})
    database.kv["a/ü"] = "one\ntwo"
    database.kv["b"] = b"\xff"
    AllKeys(database)[KEPT] = b"kept"


@pytest.fixture(params=["directory", "server"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Session]:
    with kektordb.open(tmp_path / "db") as database:
        fill(database)
        if request.param == "directory":
            yield Session(database)
            return
        with live(database) as url, kektordb.connect(url) as remote:
            yield Session(remote)


@pytest.fixture
def say(session: Session, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Any]:
    """Give what a line answers as JSON."""
    asked = Shell(session, as_json=True)

    def said(line: str) -> Any:
        capsys.readouterr()
        asked.run(line)
        return json.loads(capsys.readouterr().out)

    return said


def ids(answer: Any) -> list[str]:
    return [hit["id"] for hit in answer["results"]]


def test_searches(say: Callable[[str], Any]) -> None:
    assert ids(say("search red shoe")) == ["p1", "p'3"]
    assert ids(say("search 'red shoe' k=1")) == ["p1"]
    assert ids(say("search like p1")) == ["p1", "p 2", "p'3"]
    assert ids(say('search like "p 2" k=2')) == ["p 2", "p1"]
    assert ids(say("SEARCH LIKE 'p\\'3' K=1 k=1")) == ["p'3"]
    assert ids(say("search [1, 2.9] k=1")) == ["p 2"]
    assert ids(say("search [1,2.9]boot k=1 alpha=0 where price > 1")) == ["p 2"]
    assert ids(say("search [9, 9] where price < 50 AND deep.x = 1")) == ["p1"]
    assert ids(say("search k=2 ef=50 like p1 WHERE price < 90")) == ["p1", "p'3"]
    assert ids(say('search "where" "k=1"')) == []


def test_options_and_parameters_stay(say: Callable[[str], Any]) -> None:
    assert say('set k=1 $most=50 $some=["40", 90] $word="a b"') == {
        "k": 1,
        "ef": None,
        "alpha": 0.5,
        "$most": 50,
        "$some": ["40", 90],
        "$word": "a b",
    }
    assert ids(say("search [1, 2]")) == ["p1"]
    assert say("filter price < $most") == {
        "results": [{"id": "p1", "metadata": {"deep": {"x": 1}, "price": 40, "text": "red shoe"}}],
        "count": 2,
    }
    assert say("count price IN $some") == {"count": 2}
    assert ids(say("search [1, 2] k=3 where price < $most")) == ["p1", "p'3"]
    assert say("set ef=7")["ef"] == 7
    assert say("set ef=")["ef"] is None


def test_what_there_is(say: Callable[[str], Any]) -> None:
    assert say("count") == {"count": 3}
    assert say("count price > 10") == {"count": 2}
    assert "EXISTS(deep)" in say("explain EXISTS(deep)")["plan"]
    assert say("fields") == {"fields": {"deep": 1, "deep.x": 1, "odd name": 1, "price": 3, "text": 3}}
    assert say("get p1") == {
        "id": "p1",
        "vector": [1.0, 2.0],
        "metadata": {"deep": {"x": 1}, "price": 40, "text": "red shoe"},
    }
    assert say("use shoes") == {"index": "shoes", "n_items": 3}
    assert say("indexes") == {"indexes": {"shoes": 3}}
    assert say("info")["n_keys"] == 2
    assert say("stats")["n_items"] == 3
    assert set(say("help")) == set(VERBS)
    assert set(say("help KV")) == {"kv"}


def test_keys(say: Callable[[str], Any], session: Session) -> None:
    assert say("kv list") == {"keys": ["a/ü", "b"], "has_more": False}
    assert say("kv list a") == {"keys": ["a/ü"], "has_more": False}
    assert say("kv get a/ü") == {"key": "a/ü", "value": "one\ntwo"}
    assert say("kv get b") == {"key": "b", "base64": "/w=="}
    assert say("kv set 'c d'   some  words  ") == {"key": "c d"}
    assert session.database.kv["c d"] == b"some  words"
    say("kv set e ' f '")
    assert session.database.kv["e"] == b" f "
    assert say("kv delete e") == {"key": "e"}
    assert say("kv get e")["error"]["type"] == "ConfigError"
    assert say("save") == {"saved": True}


def test_keys_that_the_database_keeps_for_itself_are_none(say: Callable[[str], Any]) -> None:
    assert say("kv list") == {"keys": ["a/ü", "b"], "has_more": False}
    for verb, value in (("get", ""), ("delete", ""), ("set", " x")):
        assert say(f"kv {verb} {KEPT}{value}")["error"]["type"] == "ConfigError"


@pytest.mark.parametrize(
    ("line", "kind", "column"),
    [
        ("fly", "LineError", 0),
        ("  fly", "LineError", 2),
        ("search", "LineError", 6),
        ("search 'red", "LineError", 7),
        ("search 'red'shoe", "LineError", 12),
        ("search k=x red", "LineError", 9),
        ("search alpha= red", "LineError", 13),
        ("search like", "LineError", 11),
        ('search [1, "a"]', "LineError", 7),
        ("search []", "LineError", 7),
        ("search [true]", "LineError", 7),
        ("search [1, 2", "LineError", 12),
        ("search " + "[" * 100_000, "LineError", None),
        ("search [1" + "0" * 5000 + "]", "LineError", None),
        ("search [1, 2, 3]", "VectorError", None),
        ("search [1e999, 0]", "VectorError", None),
        ("search [NaN, 0]", "VectorError", None),
        (f"search [1{'0' * 400}, 0]", "VectorError", None),
        ("search red where", "LineError", 16),
        ("search red where price <", "FilterError", 7),
        ("search red k=0", "ConfigError", None),
        ("search like none", "ItemNotFound", None),
        ("filter", "LineError", 6),
        ("filter price < $x", "FilterError", 8),
        ("explain", "LineError", 7),
        ("get", "LineError", 3),
        ("get none", "ItemNotFound", None),
        ("get p1 p2", "LineError", 7),
        ("use none", "IndexNotFound", None),
        ("kv", "LineError", 2),
        ("kv fly", "LineError", 3),
        ("kv get", "LineError", 6),
        ("kv set a", "LineError", 8),
        ("kv set a 'b' c", "LineError", 13),
        ("set x=1", "LineError", 4),
        ("set $1=2", "LineError", 4),
        ("set $a=", "LineError", 7),
        ("help fly", "ConfigError", None),
        ("quit now", "LineError", 5),
        ("__class__", "LineError", 0),
    ],
)
def test_what_is_wrong_is_said_and_shown(say: Callable[[str], Any], line: str, kind: str, column: int | None) -> None:
    error = say(line)["error"]
    assert error["type"] == kind
    if column is not None:
        assert error["message"].split("\n")[-1] == " " * (column + 2) + "^"


def test_an_index_must_be_chosen_where_there_are_two(session: Session, say: Callable[[str], Any]) -> None:
    session.database.create_index("other")
    session.name = None
    assert "use INDEX" in say("count")["error"]["message"]
    say("use other")
    assert say("count") == {"count": 0}
    session.database.drop_index("other")
    assert say("count")["error"]["type"] == "IndexNotFound"


def test_answers_for_people(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    asked = Shell(session)
    for line in ("search red hat", "get p1", "kv get a/ü", "fields", "stats", "info", "help", "set", "", "# nothing"):
        assert asked.run(line)
    shown = capsys.readouterr().out
    assert "<b>red</b> \\x1b[31mhat" in shown
    assert "\x1b" not in shown
    assert 'vector    [1, 2]\n{\n  "deep": {\n    "x": 1\n  },\n' in shown
    assert "\none\ntwo\n" in shown
    assert "odd name      1\n" in shown


def test_completion(session: Session) -> None:
    assert completions(session, "", "se") == ["search", "set"]
    assert completions(session, "use ", "") == ["shoes"]
    assert completions(session, "help ", "co") == ["count"]
    assert completions(session, "kv ", "") == ["get", "set", "list", "delete"]
    assert completions(session, "kv get ", "") == []
    assert completions(session, "search ", "l") == ["like"]
    assert completions(session, "search red where ", "pr") == ["price"]
    assert completions(session, "filter price < 1 ", "an") == ["AND"]
    assert completions(session, "count ", "`odd") == ["`odd name`"]
    assert completions(session, "fly ", "") == []
    session.name = "gone"
    assert completions(session, "filter ", "pr") == []
    session.database.close()
    assert completions(session, "use ", "") == []


def test_interrupts_end_a_line_and_not_the_shell(
    session: Session, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setitem(VERBS, "stats", VERBS["stats"]._replace(run=interrupted))
    typed = iter(["^C", "fly", "stats", "count", "^D"])
    prompts = []

    def read(prompt: str) -> str:
        prompts.append(prompt)
        if (line := next(typed)) == "^C":
            raise KeyboardInterrupt
        if line == "^D":
            raise EOFError
        return line

    assert Shell(session, is_terminal=True).talk(read) == 0
    shown = capsys.readouterr()
    assert prompts == ["shoes> "] * 5
    assert shown.err.count("interrupted") == 2
    assert "3 items\n(" in shown.out
    assert Shell(session).talk(lambda _: "fly", strict=True) == 3


# ------------------------------------------------------------------------------------------------------ as a process


def piped(where: str, lines: bytes, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kektordb", "shell", *([where] if where else []), *options],
        input=lines,
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8", **environment},
    )


@pytest.fixture
def directory(tmp_path: Path) -> str:
    with kektordb.open(tmp_path / "db") as database:
        fill(database)
    return str(tmp_path / "db")


def test_a_pipe_runs_all_lines_unless_it_is_strict(directory: str) -> None:
    done = piped(directory, b"count\r\nfly\n\xff\ncount price < 50\nquit\ncount\n")
    assert (done.returncode, done.stdout) == (3, b"3 items\n2 items\n")
    assert b"line 2: expected a verb; help lists them\n  fly\n  ^\nline 3: expected UTF-8" in done.stderr
    done = piped(directory, b"count\nfly\ncount\n", "--strict", "--json")
    assert done.returncode == 3
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [["count"], ["error"]]
    done = piped("", b"count", KEKTOR_DATA_DIR=directory)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"3 items\n", b"")


def test_a_directory_is_not_changed_unless_it_may_be(directory: str) -> None:
    done = piped(directory, b"kv set a b\n")
    assert b"--write opens it for writing" in done.stderr
    assert piped(directory, b"kv set a b\nsave\n", "--write").returncode == 0
    with kektordb.open(directory) as database:
        assert database.kv["a"] == b"b"
        done = piped(directory, b"count\n", "--write")
        assert (done.returncode, done.stdout) == (3, b"")
        assert piped(directory, b"count\n").stdout == b"3 items\n"
    done = piped(directory + "none", b"", "--write")
    assert b"there is no database at" in done.stderr


def test_what_a_writer_does_is_seen_by_the_next_line(directory: str) -> None:
    with kektordb.open(directory) as writer, kektordb.open(directory, read_only=True) as reader:
        session = Session(reader)
        asked = Shell(session)
        asked.looks_again = True
        writer["shoes"].add("new", [0.0, 0.0])
        assert asked.run("get new")


# ------------------------------------------------------------------------------------------------------------- history


def test_the_history_has_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert shell.history_path() == tmp_path / "kektordb" / "shell_history"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert shell.history_path() == tmp_path / ".local" / "state" / "kektordb" / "shell_history"


def test_lines_are_kept_for_the_user_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    readline = pytest.importorskip("readline")
    path = tmp_path / "state" / "history"
    for line in ("one", "two"):
        readline.clear_history()
        with shell.remembering(path, lambda *_: None):
            readline.add_history(line)
            readline.add_history(f" secret {line}")
    assert [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("_H")] == [
        "one",
        "two",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    readline.clear_history()
    with shell.remembering(None, lambda *_: None):
        readline.add_history("three")
    assert "three" not in path.read_text(encoding="utf-8")
    with shell.remembering(path / "below a file", lambda *_: None):
        pass
    assert "the history is not kept" in capsys.readouterr().err
    readline.clear_history()


# --------------------------------------------------------------------------------------------------------------- words


def test_words_of_a_line() -> None:
    line = Line("""  get "a 'b' \\"c\\\\" 'd"e\\'' f"g  rest of   it  """)
    assert [line.word("x") for _ in range(4)] == ["get", "a 'b' \"c\\", "d\"e'", 'f"g']
    assert line.rest() == "rest of   it"
    assert line.is_over
    with pytest.raises(LineError, match="expected x, got the end of the line"):
        line.word("x")
