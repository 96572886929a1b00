"""Which heads of requests have come before? A client sends the same few again and again, and only bodies differ."""

from __future__ import annotations

from kektordb.server.calls import Call

__all__ = ["END", "MAX_HEAD_BYTES", "Heads", "Known"]

END = b"\r\n\r\n"
# Longer ones, and those that bear a name or number that is new each time, are parsed: they would fill the memory.
MAX_HEAD_BYTES = 2048
MAX_HEADS = 1024


class Known:
    """What a head says that was parsed, checked and let in.

    Attributes
    ----------
    n_body : int
        Bytes of the body that follows.
    method : str
    """

    __slots__ = ("_call", "method", "n_body")

    def __init__(self, call: Call, method: str, n_body: int) -> None:
        self._call = call.again()  # and not the call itself, which will have a body
        self.method = method
        self.n_body = n_body

    def call(self) -> Call:
        """Return a new call that the same head begins."""
        return self._call.again()


class Heads:
    """Heads by their bytes, all of them: what is equal means the same, and was let in by the same rules.

    A look-up compares hashes with a secret key before bytes, so that its time says nothing of a token in another head.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}

    def find(self, data: bytes) -> tuple[Known | None, int]:
        """Return what is known of the head at the beginning of some bytes, and where it ends."""
        end = data.find(END, 0, MAX_HEAD_BYTES) + len(END)
        return self._known.get(data[:end]), end

    def keep(self, head: bytes, known: Known) -> None:
        """Remember a head; when there are too many, begin anew."""
        if len(self._known) >= MAX_HEADS:
            self._known.clear()
        self._known[head] = known

    def __len__(self) -> int:
        return len(self._known)
