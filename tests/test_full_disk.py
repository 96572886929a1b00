"""A real full disk of 16 MB: clear errors, right answers, and writes that go on when there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from campaign import Campaign

import kektordb

PROGRAM = """
import os, sys, random
import numpy as np
import kektordb
from kektordb.errors import StorageFull

path, sync, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
def vec(i):
    return np.random.default_rng(i).standard_normal(2048).astype(np.float32)

def right(a, there):
    assert len(a) == len(there)
    for i in random.Random(len(there)).sample(sorted(there), min(20, len(there))):
        assert np.array_equal(a[f"i{i}"].vector, vec(i)) and a[f"i{i}"].metadata == {"n": i}
        assert a.search(vec(i), k=1, ef_search=len(a)).ids == [f"i{i}"]
    assert sorted(a.ids("EXISTS(n)")) == sorted(f"i{i}" for i in there)

db = kektordb.open(path + "/db", sync=sync, autosave="", n_threads=1)
a = db.create_index("a", metric="euclidean", traversal="float32", m=8, ef_construction=40)
there, n, n_full, n_resumed = set(), 0, 0, 0
for round in range(rounds):
    ballast = path + "/ballast"
    with open(ballast, "wb") as file:
        file.write(bytes(3 << 20))
    n_refused = 0
    while n_refused < 40:
        try:
            a.add(f"i{n}", vec(n), {"n": n})
            there.add(n)
        except StorageFull:
            n_refused += 1
        n += 1
    right(a, there)
    try:
        db.save()
    except StorageFull:
        n_full += 1
    right(a, there)
    with kektordb.open(path + "/db", read_only=True) as other:
        right(other["a"], there)
    os.unlink(ballast)
    for _ in range(20):
        a.add(f"i{n}", vec(n), {"n": n})
        there.add(n)
        n += 1
        n_resumed += 1
    gone = sorted(there)[: max(0, len(there) - 150)]
    a.delete([f"i{i}" for i in gone])
    there -= set(gone)
    a.vacuum().wait(60)
    db.save()
    right(a, there)
db.close()
with kektordb.open(path + "/db", autosave="") as db:
    right(db["a"], there)
assert n_full, "it was never full while saving"
print(n, rounds * 40, n_full, n_resumed)
"""


@pytest.mark.crash
@pytest.mark.parametrize("sync", ["always", "everysec"])
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="mounts as Linux does")
def test_a_full_disk_gives_errors_and_loses_nothing(tmp_path: Path, sync: str, campaign: Campaign) -> None:
    unshare = ["unshare", "-m"] if os.getuid() == 0 else ["unshare", "-Urm"]
    mount = f"mount -t tmpfs -o size=16m none {tmp_path}"
    if subprocess.run([*unshare, "sh", "-c", mount], capture_output=True, check=False).returncode:
        pytest.skip("no right to mount")
    environment = {**os.environ, "PYTHONPATH": str(Path(kektordb.__file__).parent.parent), "PROGRAM": PROGRAM}
    rounds = campaign.count("FULL_DISKS", 1, 10)
    ran = subprocess.run(
        [*unshare, "sh", "-c", f'{mount} && exec {sys.executable} -c "$PROGRAM" {tmp_path} {sync} {rounds}'],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    tried, refused, full_saves, resumed = map(int, ran.stdout.split())
    campaign.note(
        "full disk", sync, tried=tried, refused=refused, failed_saves=full_saves, written_after=resumed, lost=0
    )
