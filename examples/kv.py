"""The key-value store beside the indexes: a mapping of strings to bytes, as durable as they are.

python examples/kv.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import kektordb


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kektordb-") as folder:
        path = Path(folder, "data")
        with kektordb.open(path) as db:
            db.kv["greeting"] = "good morning"  # text is stored as UTF-8
            db.kv["picture"] = b"\x89PNG"
            with db.batch():  # all of these, or none
                for number in range(3):
                    db.kv[f"session/{number}"] = f"user {number}"
            del db.kv["picture"]

        with kektordb.open(path) as db:
            print(f"after reopening: {dict(db.kv)}")
            print(f"as text: {db.kv.get_str('greeting')}, missing: {db.kv.get_str('missing', 'nothing')}")
            print(f"by prefix: {list(db.kv.prefix('session/'))}")


if __name__ == "__main__":
    main()
