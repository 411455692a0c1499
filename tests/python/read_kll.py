"""Reads a KLL sketch of floats with Apache DataSketches and prints what it says, as JSON.

read_kll.py FILE RANK...: the number of values, the smallest, the largest, and the quantile of each rank.
Needs datasketches 5.2.0.
"""

import json
import sys
from pathlib import Path

from datasketches import kll_floats_sketch


def read(path, ranks):
    sketch = kll_floats_sketch.deserialize(Path(path).read_bytes())
    return {
        "n": sketch.n,
        "min": sketch.get_min_value(),
        "max": sketch.get_max_value(),
        "quantiles": [sketch.get_quantile(rank, True) for rank in ranks],
    }


if __name__ == "__main__":
    print(json.dumps(read(sys.argv[1], [float(rank) for rank in sys.argv[2:]])))
