#!/usr/bin/env python3
"""Writes one sample of the digits in every form that people bring: what numpy writes, and tables in CSV.

The images are those of the demo's test file, twice over, so that there are more than a thousand. All files say the same.

Usage: make_samples.py DIGITS_TEST_BIN FOLDER
"""

import csv
import sys
from pathlib import Path

import numpy as np


def main():
    records = np.frombuffer(Path(sys.argv[1]).read_bytes(), dtype=np.uint8).reshape(-1, 65)
    pixels = np.concatenate([records[:, :64], records[:, :64]])
    folder = Path(sys.argv[2])
    images = pixels.astype(np.float32).reshape(-1, 1, 1, 8, 8)
    np.savez_compressed(folder / "as-the-model-takes-it.npz", **{"inputs/image": images})
    np.savez(folder / "without-the-batch.npz", **{"inputs/image": images[:, 0]})
    # What a data frame gives: FP64, and the columns one after the other in memory.
    columns_first = np.asfortranarray(images.astype(np.float64))
    assert not columns_first.flags["C_CONTIGUOUS"]
    np.savez(folder / "columns-first.npz", **{"inputs/image": columns_first})
    np.savez_compressed(folder / "bytes.npz", **{"inputs/image": pixels.reshape(-1, 1, 1, 8, 8)})
    names = [f"pixel {place}" for place in range(64)]
    np.savetxt(folder / "savetxt.csv", pixels, delimiter=",", header=",".join(names), comments="")
    with (folder / "dict-writer.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, names, quoting=csv.QUOTE_ALL)
        writer.writeheader()
        writer.writerows(dict(zip(names, row)) for row in pixels.tolist())


if __name__ == "__main__":
    main()
