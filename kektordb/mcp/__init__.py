"""A database as tools of a language model, over the Model Context Protocol; see docs/mcp.md.

`tools` says what the tools do and knows nothing of the protocol; `server` is the door to the package ``mcp``.
"""
