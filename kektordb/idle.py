"""May a connection that was kept be used again?"""

from __future__ import annotations

import select
import socket
import sys

__all__ = ["has_come"]


def has_come(sock: socket.socket) -> bool:
    """Tell whether anything came from the other side, which was asked for nothing: as a rule, that it has closed."""
    try:
        if sys.platform == "win32":
            return bool(select.select([sock], [], [], 0)[0])
        poll = select.poll()  # elsewhere select knows the first 1,024 descriptors of a process only
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))
    except (OSError, ValueError):
        return True
