"""How records are appended to a log and read back from it.

A log is a 64-byte header and then records: a 32-byte header, the payload, zeros up to a multiple of eight. A payload of
more than 64 MiB is cut into several records, all but the last flagged as continued; only whole it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

import msgspec
from xxhash import xxh3_64, xxh3_64_intdigest

from ..errors import StorageFailed, StorageFull
from .backend import NO_ROOM, Buffer, File
from .codec import FILE_HEADER_BYTES, MAX_LAG, MAX_PART_BYTES, MORE_FOLLOWS, RECORD, RECORD_HEAD, CloseNote, record_seed

__all__ = ["Log", "LogReader", "Onward", "Record", "digested", "foreseen", "look_onward"]

# Up to here the parts of a payload are joined, which is cheaper than a longer vector of pieces for the kernel.
JOIN_BYTES = 1 << 18
MAX_PIECES = 512  # half of what writev takes on any system
WINDOW_BYTES = 4 << 20
PADDING = (b"", b"\0" * 7, b"\0" * 6, b"\0" * 5, b"\0" * 4, b"\0" * 3, b"\0" * 2, b"\0")
_WORD = Struct("<Q")


class Record(NamedTuple):
    """One record as it was appended.

    `seq` is the sequence number that `append` returned; `payload` is a view into the read buffer, or of joined parts.
    """

    seq: int
    type: int
    payload: memoryview


class Log:
    """The end of a log that takes records; one caller at a time.

    Attributes
    ----------
    end, seq : int
        Size of the file and last sequence number in it, always behind a whole batch.
    chain : int
        Check over the headers of all records so far.
    digest : int
        Check over all records since the database began, whichever logs and machines they lie on: see `digested`.
    written, synced : tuple
        (seq, end) of the last whole write, and of the last one that was made durable; read by the syncing thread.
    """

    def __init__(
        self, file: File, path: str, number: int, uuid: bytes, end: int, seq: int, chain: int, digest: int
    ) -> None:
        self.file = file
        self.path = path
        self.number = number
        self.end = end
        self.seq = seq
        self.chain = chain
        self.digest = digest
        self.written = (seq, end)
        self.synced = (seq, end)
        self._seed = record_seed(uuid, number)

    def append(self, kind: int, parts: Sequence[Buffer]) -> int:
        """Write one record, or several when the payload is long; return the last sequence number.

        Raises
        ------
        StorageFull
            The log is as it was before.
        StorageFailed
            The log must not be written any more.
        """
        n = 0
        for part in parts:
            n += part.nbytes if type(part) is memoryview else len(part)
        if n > JOIN_BYTES:
            return self._append_long(kind, parts, n)
        body = b"".join((*parts, PADDING[n & 7]))
        header = self._header(self.seq + 1, kind, n, xxh3_64_intdigest(body), 0)
        self._write((header, body), 32 + len(body))
        self.seq += 1
        self.end += 32 + len(body)
        self.chain = xxh3_64_intdigest(header, self.chain)
        self.digest = digested(header, kind, self.digest)
        self.written = (self.seq, self.end)
        return self.seq

    def sync(self) -> None:
        """Make all whole writes so far durable. Raises the plain OSError."""
        written = self.written
        self.file.sync()
        self.synced = written

    def note(self) -> CloseNote:
        """Describe the log as it stands, for the manifest."""
        return CloseNote(self.number, self.end, self.seq, self.chain)

    def _header(self, seq: int, kind: int, n: int, check: int, flags: int) -> bytes:
        lag = min(seq - self.synced[0], MAX_LAG)
        head = RECORD_HEAD.pack(check, seq, n, lag, kind, flags)
        return head + (xxh3_64_intdigest(head, self._seed) & 0xFFFFFFFF).to_bytes(4, "little")

    def _append_long(self, kind: int, parts: Sequence[Buffer], n: int) -> int:
        seq, end, chain, digest = self.seq, self.end, self.chain, self.digest
        pieces = _coalesce(parts)
        while n:
            taken, n_taken = _take(pieces, MAX_PART_BYTES)
            n -= n_taken
            taken.append(memoryview(PADDING[n_taken & 7]))
            check = xxh3_64()
            for piece in taken:
                check.update(piece)
            seq += 1
            header = self._header(seq, kind, n_taken, check.intdigest(), MORE_FOLLOWS if n else 0)
            taken.insert(0, memoryview(header))
            for first in range(0, len(taken), MAX_PIECES):
                some = taken[first : first + MAX_PIECES]
                self._write(some, sum(map(len, some)))
            chain = xxh3_64_intdigest(header, chain)
            digest = digested(header, kind, digest)
            end += 32 + n_taken + (-n_taken & 7)
        self.seq, self.end, self.chain, self.digest = seq, end, chain, digest
        self.written = (seq, end)
        return seq

    def _write(self, pieces: Sequence[Buffer], n: int) -> None:
        try:
            done = self.file.writev(pieces)
        except OSError as error:
            self._take_back(error)
            if error.errno in NO_ROOM:
                raise StorageFull(f"no room to write to {self.path} ({error.strerror})") from error
            raise StorageFailed(f"writing to {self.path} failed ({error.strerror or error})") from error
        if done != n:
            self._take_back(None)
            raise StorageFull(f"no room to write to {self.path} ({done} of {n} bytes written)")

    def _take_back(self, cause: OSError | None) -> None:
        try:
            self.file.truncate(self.end)
        except OSError as error:
            raise StorageFailed(f"{self.path} could not be cut back after a failed write ({error})") from (
                cause or error
            )


def _coalesce(parts: Sequence[Buffer]) -> list[memoryview]:
    """Join runs of small parts; long ones stay where they are. In reverse order, to be taken from the end."""
    pieces: list[memoryview] = []
    small: list[Buffer] = []
    for part in parts:
        view = memoryview(part)
        if view.nbytes <= JOIN_BYTES:
            small.append(view)
            continue
        if small:
            pieces.append(memoryview(b"".join(small)))
            small = []
        pieces.append(view.cast("B"))
    if small:
        pieces.append(memoryview(b"".join(small)))
    pieces.reverse()
    return pieces


def _take(pieces: list[memoryview], n: int) -> tuple[list[memoryview], int]:
    """Move the first `n` bytes out of the reversed `pieces`, or all there are."""
    taken: list[memoryview] = []
    left = n
    while pieces and left:
        piece = pieces.pop()
        if len(piece) > left:
            pieces.append(piece[left:])
            piece = piece[:left]
        taken.append(piece)
        left -= len(piece)
    return taken, n - left


class LogReader:
    """Walks the records of one log from its header to the first byte that is no next record.

    Parameters
    ----------
    seq : int
        Last sequence number before this log.
    note : CloseNote or None
        How this log was once closed.
    digest : int
        Of the history before this log.

    Attributes
    ----------
    good_end, good_seq, chain, digest : int
        Behind the last whole batch; for a `Log` to go on from.
    last_at, last_head : int, bytes-like
        Where the header of the last record of that batch lies, and the header itself; empty when there is none.
    stop_end, stop_seq : int
        Behind the last valid record, which may be part of an unfinished batch.
    durable : int
        The highest sequence number that a valid record says was synced.
    note_holds : bool
        The records up to the note are the ones that were there at the clean close.
    """

    def __init__(self, file: File, uuid: bytes, number: int, seq: int, note: CloseNote | None, digest: int = 0) -> None:
        self.file = file
        self.number = number
        self.seed = record_seed(uuid, number)
        self.size = file.size()
        self.good_end = self.stop_end = FILE_HEADER_BYTES
        self.good_seq = self.stop_seq = self.durable = seq
        self.chain = 0
        self.digest = digest
        self.last_at = FILE_HEADER_BYTES
        self.last_head: bytes | memoryview = b""
        self._note = note
        self.note_holds = note is None or self._is_noted(FILE_HEADER_BYTES, seq, 0)

    def records(self) -> Iterator[Record]:
        """Yield the whole records in order; the attributes say where it ended."""
        unpack, seed, size, note_end = (
            RECORD.unpack_from,
            self.seed,
            self.size,
            self._note.n_bytes if self._note else -1,
        )
        at, seq, chain, digest = self.good_end, self.good_seq, self.chain, self.digest
        window, base = memoryview(b""), at
        parts: list[memoryview] = []
        while at + 32 <= size:
            start = at - base
            if start + 32 > len(window):
                window, base, start = self._load(at, 32), at, 0
            if len(window) < 32:
                break
            check, found, n, lag, kind, flags, head_check = unpack(window, start)
            head = window[start : start + 32]
            if (xxh3_64_intdigest(head[:28], seed) & 0xFFFFFFFF) != head_check or found != seq + 1:
                break
            stop = start + 32 + ((n + 7) & ~7)
            if n > MAX_PART_BYTES or flags > MORE_FOLLOWS or base + stop > size:
                break
            if stop > len(window):
                window, base, start, stop = self._load(at, stop - start), at, 0, stop - start
            if xxh3_64_intdigest(window[start + 32 : stop]) != check:
                break
            chain = xxh3_64_intdigest(head, chain)
            digest = digested(head, kind, digest)
            begin = at
            payload = window[start + 32 : start + 32 + n]
            at, seq = base + stop, found
            self.stop_end, self.stop_seq, self.durable = at, seq, found - lag
            if at == note_end:
                self.note_holds = self._is_noted(at, seq, chain)
            if flags:
                parts.append(payload)
                continue
            if parts:
                payload = memoryview(b"".join((*parts, payload)))
                parts.clear()
            self.good_end, self.good_seq, self.chain, self.digest = at, seq, chain, digest
            self.last_at, self.last_head = begin, head
            yield Record(seq, kind, payload)

    def look_again(self) -> None:
        """Let `records` go on behind the last whole batch with what the file holds by now."""
        self.size = self.file.size()
        self.stop_end, self.stop_seq = self.good_end, self.good_seq

    def _load(self, at: int, n: int) -> memoryview:
        return memoryview(self.file.pread(max(n, min(WINDOW_BYTES, self.size - at)), at))

    def _is_noted(self, end: int, seq: int, chain: int) -> bool:
        note = self._note
        return note is not None and (end, seq, chain) == (note.n_bytes, note.seq, note.chain)


class Onward(msgspec.Struct, frozen=True):
    """What lies behind a bad record.

    Attributes
    ----------
    n_records : int
        Readable records.
    durable : int
        The highest sequence number that one of their headers says was synced; 0 when there is none.
    """

    n_records: int
    durable: int


def digested(head: bytes | memoryview, kind: int, digest: int) -> int:
    """Return the digest of a history that goes on with the record of this header.

    It takes in the check of the payload, sequence number, length and type, which are the same wherever the record lies;
    the rest of a header is of its log. Two histories with the same digest at the same record are the same up to there.
    """
    return xxh3_64_intdigest(head[:20], digest ^ kind)


def foreseen(seq: int, digest: int, kind: int, payload: Buffer) -> tuple[int, int]:
    """Return the sequence number and the digest that there will be when a payload is appended to a log."""
    view = memoryview(payload)
    step = MAX_PART_BYTES if len(view) > JOIN_BYTES else max(1, len(view))
    for start in range(0, max(1, len(view)), step):
        part = view[start : start + step]
        check = xxh3_64(part)
        check.update(PADDING[len(part) & 7])
        seq += 1
        digest = digested(RECORD_HEAD.pack(check.intdigest(), seq, len(part), 0, 0, 0), kind, digest)
    return seq, digest


def look_onward(reader: LogReader, file: File) -> Onward:
    """Look for valid record headers behind the first bad record of a log.

    A header is recognised on its own: its check is seeded with the database and the log, and its sequence number can
    only lie in a narrow range.
    """
    first = reader.stop_seq + 1
    at = reader.stop_end
    last = first + (reader.size - at) // 32
    bad = _valid_header(file.pread(32, at), reader.seed)
    skip = at + 8
    if bad is not None and bad[1] == first:
        skip = at + 32 + ((bad[2] + 7) & ~7)  # only its payload is damaged: what is in there is not ours to interpret
    n_records = durable = 0
    at = skip
    while at + 32 <= reader.size:
        # Not beyond the size that the reader saw: a writer may have gone on since.
        window = file.pread(min(WINDOW_BYTES + 32, reader.size - at), at)
        words = memoryview(window)[: len(window) & ~7]
        for i, (word,) in enumerate(_WORD.iter_unpack(words)):
            start = at + 8 * (i - 1)  # the sequence number is the second word of a header
            if not first <= word <= last or start < skip:
                continue
            head = _valid_header(window[8 * i - 8 : 8 * i + 24], reader.seed) if i else None
            if head is None:
                continue
            durable = max(durable, head[1] - head[3])
            padded = (head[2] + 7) & ~7
            if head[2] <= MAX_PART_BYTES and xxh3_64_intdigest(file.pread(padded, start + 32)) == head[0]:
                n_records += 1
                skip = start + 32 + padded
        at += WINDOW_BYTES
    return Onward(n_records, durable)


def _valid_header(data: bytes, seed: int) -> tuple[int, int, int, int] | None:
    if len(data) < 32:
        return None
    check, seq, n, lag, _, _, head_check = RECORD.unpack(data)
    if (xxh3_64_intdigest(data[:28], seed) & 0xFFFFFFFF) != head_check:
        return None
    return check, seq, n, lag
