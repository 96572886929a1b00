"""Texts to cut: drawn from a seed, with paragraphs, sentences, lines and the odd very long word."""

from __future__ import annotations

import random

WORDS = [
    *("the", "of", "and", "a", "to", "in", "is", "that", "it", "was", "for", "on", "are", "with", "as", "his", "they"),
    *(
        "naïve",
        "Straße",
        "überall",
        "δοκιμή",
        "проверка",
        "東京",
        "日本語",
        "🙂",
        "👩\u200d👩\u200d👧",
        "e.g.",
        "3.14",
        "don't",
    ),
    *("(brackets)", "[1]", "http://example.org/?b=c"),
]


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(1, 25))).capitalize() + rng.choice([".", ".", "!", "?", ":"])


def paragraph(rng: random.Random) -> str:
    if rng.random() < 0.02:
        return "x" * rng.randint(100, 900)
    return rng.choice([" ", " ", "\n"]).join(sentence(rng) for _ in range(rng.randint(1, 8)))


def prose(seed: int, n_paragraphs: int = 40) -> str:
    rng = random.Random(seed)
    return "".join(
        paragraph(rng) + rng.choice(["\n\n", "\n\n", "\n \n", "\n\n\n", "\r\n\r\n"]) for _ in range(n_paragraphs)
    )
