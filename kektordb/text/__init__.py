"""How do texts become terms, and which part of a text does a query speak of?"""

from __future__ import annotations

from kektordb.text.analyzer import SIMPLE, Analyzer, languages
from kektordb.text.snippet import contains_phrase, snippet

__all__ = ["SIMPLE", "Analyzer", "contains_phrase", "languages", "snippet"]
