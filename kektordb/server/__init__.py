"""KektorDB over HTTP: an ASGI application, and a server for it. Needs ``pip install 'kektordb[server]'``.

>>> app = create_app(database, Options(token="…"))
"""

from kektordb.server.app import Application, create_app
from kektordb.server.options import Limits, Options

__all__ = ["Application", "Limits", "Options", "create_app"]
