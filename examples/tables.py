"""How do tables go in and out? Arrow and pandas, Parquet, and files for other systems.

Run it with ``python examples/tables.py``. Needs: pyarrow, pandas
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import kektordb


def main() -> None:
    rng = np.random.default_rng(4)
    vectors = rng.standard_normal((1000, 16)).astype(np.float32)
    table = pa.table(
        {
            "id": [f"shoe-{n}" for n in range(1000)],
            "vector": pa.FixedSizeListArray.from_arrays(vectors.reshape(-1), 16),
            "price": rng.integers(10, 200, 1000),
            "color": rng.choice(["red", "blue", "green"], 1000),
        }
    )
    with tempfile.TemporaryDirectory(prefix="kektordb-") as folder, kektordb.open(":memory:") as db:
        path = Path(folder)
        pq.write_table(table, path / "shoes.parquet")

        shoes = db.create_index("shoes", metric="cosine")
        print(f"add_file: {shoes.add_file(path / 'shoes.parquet'):,} items of a Parquet file, part by part")
        print(f"add_arrow: {shoes.add_arrow(table.slice(0, 100), replace=True)} of them once more, from memory")

        found = shoes.to_arrow("color = 'red' AND price < 50", columns=["price"])
        print(f"to_arrow: {found.num_rows} red ones below 50, {', '.join(found.schema.names)}")

        frame = shoes.to_pandas()
        print(f"to_pandas: mean price by color {frame.groupby('color')['price'].mean().round(1).to_dict()}")

        cheaper = frame[frame["price"] > 150].assign(price=lambda one: one["price"] // 2)
        print(f"from_pandas: {shoes.from_pandas(cheaper, replace=True)} are cheaper now")
        print(f"above 150 are {shoes.count('price > 150')}")

        for format in ("qdrant", "pgvector"):
            shoes.export(path / f"shoes.{format}", format=format)
        print("export:", ", ".join(sorted(one.name for one in path.iterdir())))


if __name__ == "__main__":
    main()
