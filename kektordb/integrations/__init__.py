"""How do other frameworks keep their documents in KektorDB? A module for each; ``import kektordb`` loads none.

`langchain`, `llama_index` and `haystack` need their framework, which an extra of that name installs. `wrapper` needs
none. The others are what they share.
"""
