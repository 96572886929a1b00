"""A database on a server, with the verbs of an embedded one.

>>> with connect("http://localhost:9091", token="…") as db:
...     db["shoes"].search([1.0, 0.1], k=1)
"""

from kektordb.remote.database import RemoteDatabase, connect
from kektordb.remote.index import RemoteIndex
from kektordb.remote.results import RemoteResults
from kektordb.remote.tasks import RemoteTask

__all__ = ["RemoteDatabase", "RemoteIndex", "RemoteResults", "RemoteTask", "connect"]
