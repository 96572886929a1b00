"""The filter language on a catalogue of eight shoes: each filter, and what it keeps.

python examples/filters.py
"""

from __future__ import annotations

import numpy as np

import kektordb
from kektordb import F

SHOES = {
    "runner": {"brand": "Alba", "price": 89.5, "stock": 12, "tags": ["sport", "light"], "size": {"eu": 42}},
    "sprinter": {"brand": "Alba", "price": 129, "stock": 0, "tags": ["sport"], "size": {"eu": 44}},
    "loafer": {"brand": "Due Passi", "price": 75, "stock": 3, "tags": ["office"], "size": {"eu": 41}},
    "oxford": {"brand": "Due Passi", "price": 140, "stock": 7, "tags": ["office", "leather"], "size": {"eu": 42}},
    "sandal": {"brand": "O'Hara", "price": 35, "stock": 40, "tags": ["summer", "light"], "vegan": True},
    "clog": {"brand": "O'Hara", "price": 42, "stock": 0, "tags": ["summer"], "vegan": False},
    "boot": {"brand": "Nord", "price": 180, "stock": 5, "tags": ["winter", "leather"], "size": {"eu": 44}},
    "slipper": {"brand": "Nord", "price": 25, "stock": 18, "tags": []},
}

FILTERS = [
    "price < 50",
    "price BETWEEN 40 AND 100 AND stock > 0",
    "brand = 'Due Passi' OR brand = Nord",
    "brand IN ('Alba', 'Nord') AND NOT stock = 0",
    r"brand = 'O\'Hara'",
    "tags = leather",
    "tags = light AND tags = sport",
    "brand LIKE 'A%'",
    "brand LIKE '%ra'",
    "size.eu >= 42",
    "EXISTS(vegan)",
    "vegan = true",
    "brand != Alba and price > 100",
]

# The same without text to put together.
BUILT = {
    'F("price") < 50': F("price") < 50,
    '(F("stock") > 0) & (F("tags") == "leather")': (F("stock") > 0) & (F("tags") == "leather"),
}


def main() -> None:
    rng = np.random.default_rng(1)
    with kektordb.open(":memory:") as db:
        shoes = db.create_index("shoes", metric="cosine")
        shoes.add_batch(list(SHOES), rng.standard_normal((len(SHOES), 16), dtype=np.float32), list(SHOES.values()))
        query = rng.standard_normal(16, dtype=np.float32)

        for shown, condition in ({text: text for text in FILTERS} | BUILT).items():
            hits = shoes.search(query, k=10, filter=condition)
            print(f"{shown:<48} {', '.join(sorted(hits.ids))}")

        # Whatever a user types goes into params: it is compared, never parsed.
        typed = "Nord' OR price > 0 --"
        print(f"\n{'brand = $brand':<48} {shoes.search(query, filter='brand = $brand', params={'brand': typed}).ids}")

        plan = shoes.explain("price < 50 OR (stock = 0 AND brand LIKE $start)", {"start": "A%"})
        print(f"\nHow a filter is run, and what each part keeps:\n{plan}")

        try:
            shoes.count("price < 50 AND (stock >")
        except kektordb.FilterError as error:
            print(f"\nA filter that does not parse says where:\n{error}")


if __name__ == "__main__":
    main()
