"""What does a language model see of a database? The tools of ``kektordb mcp``, called as an assistant calls them.

Run it with ``python examples/mcp_client.py``. Needs: mcp
"""

from __future__ import annotations

import asyncio
import json

import mcp

import kektordb
from kektordb.mcp.server import make_server
from kektordb.mcp.tools import Tools

NOTES = {
    "plants": "Water the tomatoes on Monday and on Friday",
    "car": "The car needs new tyres before winter",
    "trip": "Book the train to the sea in June",
}


async def talk(db: kektordb.Database) -> None:
    server = make_server(Tools(db, embedder="auto", allow_writes=True))
    # Here in memory; `kektordb mcp` does the same on stdio, and `--http` on a port.
    async with mcp.Client(server) as client:
        tools = (await client.list_tools()).tools
        print("tools:", ", ".join(tool.name for tool in tools))

        async def call(tool: str, **arguments: object) -> dict[str, object]:
            answer = await client.call_tool(tool, arguments)
            return json.loads(answer.content[0].text)

        print("list_indexes:", await call("list_indexes"))
        await call("add_texts", index="notes", texts=list(NOTES.values()), ids=list(NOTES))
        for text in ("when do I water the tomatoes", "trains"):
            hits = (await call("search", index="notes", text=text, k=1))["hits"]
            print(f"search {text!r}: {hits[0]['id']}: {hits[0]['metadata']['text']}")
        refused = await client.call_tool("search", {"index": "recipes", "text": "soup"})
        print("search in what is not there:", refused.content[0].text)


def main() -> None:
    with kektordb.open(":memory:") as db:
        db.create_index("notes", text_language="english", embedder="hashing:256")
        asyncio.run(talk(db))


if __name__ == "__main__":
    main()
