"""``kektordb shell``: how are lines read, one after the other, from a terminal or a pipe?"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kektordb.commands.answer import DONE, FAILED, Answer, new_command, printable
from kektordb.commands.target import add_target, is_url, opened
from kektordb.errors import KektorError, ReadOnlyDatabase

if TYPE_CHECKING:
    from kektordb.commands.answer import Commands
    from kektordb.commands.verbs import Session

__all__ = ["Shell", "add", "history_path", "remembering"]

MAX_LINES = 2000  # of the history
DEFAULT_DIRECTORY = "kektordb-data"  # that of `kektordb serve`


def add(commands: Commands) -> None:
    """Describe the command."""
    parser = new_command(commands, "shell", _shell, "search and filter, line by line")
    add_target(parser, index=False, needed=False)
    parser.add_argument("--write", action="store_true", help="open a directory for writing, which one process can do")
    parser.add_argument("--strict", action="store_true", help="end at the first line that fails")
    parser.add_argument("--no-history", action="store_true", help="do not keep what is typed")


def _shell(arguments: Namespace) -> Answer:
    from kektordb.commands.verbs import Session

    arguments.database = arguments.database or os.environ.get("KEKTOR_DATA_DIR") or DEFAULT_DIRECTORY
    is_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    with opened(arguments, writing=arguments.write) as database:
        shell = Shell(Session(database), as_json=arguments.json, is_terminal=is_terminal)
        shell.looks_again = not is_url(arguments.database) and not arguments.write
        if not is_terminal:
            n_failed = shell.run_all(_lines_of_pipe(), arguments.strict)
            return Answer({}, "", FAILED if n_failed else DONE)
        if not arguments.quiet:
            how = ", read-only: --write changes that" if shell.looks_again else ""
            print(f"{printable(arguments.database)}{how}. help lists the verbs.")
        with remembering(None if arguments.no_history else history_path(), shell.complete):
            return Answer({}, "", shell.talk(input, arguments.strict))


def _lines_of_pipe() -> Iterator[str | UnicodeDecodeError]:
    """Give the lines of standard input, and an error in the place of one that is no UTF-8."""
    for line in sys.stdin.buffer:
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            yield error


class Shell:
    """Runs lines, and shows what comes of them.

    Parameters
    ----------
    session : Session
    as_json : bool
        Each answer is a line with a JSON object, and so is each error.
    is_terminal : bool
        Somebody looks: say how long searches take.

    Attributes
    ----------
    looks_again : bool
        The database is another process's: see what that has written before each line.
    """

    def __init__(self, session: Session, *, as_json: bool = False, is_terminal: bool = False) -> None:
        self.session = session
        self.looks_again = False
        self._as_json = as_json
        self._is_terminal = is_terminal
        self._found: list[str] = []

    def talk(self, read: Callable[[str], str], strict: bool = False) -> int:
        """Run what `read` gives for a prompt until it raises EOFError; Ctrl-C ends a line only. Return a status."""
        while True:
            try:
                if not self.run(read(f"{printable(self.session.name or 'kektordb')}> ")) and strict:
                    return FAILED
            except EOFError:
                return DONE
            except KeyboardInterrupt:
                print("\ninterrupted", file=sys.stderr)
            except UnicodeDecodeError:
                self._fail(ValueError("expected UTF-8"))

    def run_all(self, lines: Iterable[str | UnicodeDecodeError], strict: bool = False) -> int:
        """Run lines of a pipe; return how many failed. With `strict` the first one that does is the last."""
        n_failed = 0
        for number, line in enumerate(lines, 1):
            try:
                if not self.run(line, number):
                    n_failed += 1
                    if strict:
                        break
            except EOFError:
                break
        return n_failed

    def run(self, line: str | UnicodeDecodeError, number: int = 0) -> bool:
        """Run one line, and tell whether it did not fail. An empty one, and one that begins with #, is nothing.

        Raises EOFError when it says to leave.
        """
        from kektordb.commands.verbs import run

        if isinstance(line, UnicodeDecodeError):
            return self._fail(ValueError(f"expected UTF-8, got {line.object[line.start : line.start + 1]!r}"), number)
        line = line.rstrip("\r\n")
        if not line.strip() or line.lstrip().startswith("#"):
            return True
        began = time.perf_counter()
        try:
            if self.looks_again:
                self.session.database.refresh()  # type: ignore[union-attr]
            answer = run(self.session, line)
        except KektorError as error:
            return self._fail(error, number)
        print(json.dumps(answer.data, ensure_ascii=False) if self._as_json else answer.text)
        if self._is_terminal and not self._as_json:
            print(f"({(time.perf_counter() - began) * 1000:.2f} ms)")
        sys.stdout.flush()
        return True

    def _fail(self, error: Exception, number: int = 0) -> bool:
        message = str(error)
        if isinstance(error, ReadOnlyDatabase) and self.looks_again:
            message += ": kektordb shell --write opens it for writing"
        if self._as_json:
            print(json.dumps({"error": {"type": type(error).__name__, "message": message}}), flush=True)
        where = f"line {number}: " if number else ""
        print("\n".join(map(printable, f"{where}{message}".split("\n"))), file=sys.stderr, flush=True)
        return False

    def complete(self, begun: str, state: int) -> str | None:
        """Return the next of what may stand at the cursor, as `readline` asks for it."""
        from kektordb.commands.verbs import completions

        if state == 0:
            readline = _readline()
            found = completions(self.session, readline.get_line_buffer()[: readline.get_begidx()], begun)
            if len(found) == 1 and not found[0].endswith(("=", "(")):
                found = [f"{found[0]} "]
            self._found = found
        return self._found[state] if state < len(self._found) else None


# ------------------------------------------------------------------------------------------------------------- history


def history_path() -> Path | None:
    """Return the file in which lines are kept; None when there is no place for it."""
    state = os.environ.get("XDG_STATE_HOME", "")
    try:
        root = Path(state) if os.path.isabs(state) else Path.home() / ".local" / "state"
    except RuntimeError:  # no home
        return None
    return root / "kektordb" / "shell_history"


def _readline() -> Any:
    """Return the module, which not every system has. Raises ImportError."""
    return import_module("readline")


@contextlib.contextmanager
def remembering(path: Path | None, complete: Callable[[str, int], str | None]) -> Iterator[None]:
    """Let lines be edited, completed with Tab, and, with a `path`, kept in a file that nobody else may read.

    A line that begins with a blank is not kept. Without ``readline`` nothing of this happens.
    """
    try:
        readline = _readline()
    except ImportError:
        yield
        return
    readline.set_completer(complete)
    readline.set_completer_delims(" \t\n(,<>!")
    is_libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if is_libedit else "tab: complete")
    if path is None:
        yield
        return
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        path.chmod(0o600)
        readline.read_history_file(path)
    except OSError as error:
        print(f"kektordb: the history is not kept: {error.strerror or error}", file=sys.stderr)
        yield
        return
    n_before = readline.get_current_history_length()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _keep(readline, path, n_before)


def _keep(readline: Any, path: Path, n_before: int) -> None:
    """Add the lines since `n_before` to a file; other shells may do so at the same time."""
    n = readline.get_current_history_length()
    for i in range(n, n_before, -1):
        if (readline.get_history_item(i) or "").startswith((" ", "\t")):
            readline.remove_history_item(i - 1)
    n = readline.get_current_history_length()
    before = os.umask(0o077)
    try:
        readline.set_history_length(MAX_LINES)
        if hasattr(readline, "append_history_file"):
            readline.append_history_file(n - n_before, path)
        else:
            readline.write_history_file(path)
    finally:
        os.umask(before)
