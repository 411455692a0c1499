#!/usr/bin/env python3
"""Apache DataSketches' KLL in C++, as PyPI has it, driven by the bench `sketch` over standard input and output.

Each line asks for one turn and is answered with the nanoseconds that it took, measured here, around calls that each do
many values or one merge. So what Python itself takes is a small part of them.

    rows N      N rows of 32 normal numbers into 32 sketches
    values N    N normal numbers into one sketch
    merge N     N sketches of 1,000 numbers added up
    read N      the same, read from their bytes first
    bytes N     not a time: mean size of N such sketches
"""

import sys
import time

import datasketches
import numpy

K = 200
FEATURES = 32
SENT_ROWS = 1_000


class Turns:
    """Takes a turn of each kind."""

    def __init__(self):
        self.random = numpy.random.default_rng(1)
        self.columns = datasketches.vector_of_kll_floats_sketches(K, FEATURES)
        self.single = datasketches.kll_floats_sketch(K)
        self.numbers = {}
        self.sketches = [self.sketch() for _ in range(100)]
        self.serialized = [sketch.serialize() for sketch in self.sketches]

    def sketch(self):
        sketch = datasketches.kll_floats_sketch(K)
        sketch.update(self.normal(SENT_ROWS))
        return sketch

    def normal(self, *shape):
        return self.random.standard_normal(shape, dtype=numpy.float32)

    def kept(self, *shape):
        """The same numbers each time, made before the clock runs."""
        return self.numbers.setdefault(shape, self.normal(*shape))

    def rows(self, count):
        rows = self.kept(count, FEATURES)
        return timed(lambda: self.columns.update(rows))

    def values(self, count):
        values = self.kept(count)
        return timed(lambda: self.single.update(values))

    def merge(self, count):
        def act():
            total = datasketches.kll_floats_sketch(K)
            for sketch in self.sketches[:count]:
                total.merge(sketch)

        return timed(act)

    def read(self, count):
        def act():
            total = datasketches.kll_floats_sketch(K)
            for data in self.serialized[:count]:
                total.merge(datasketches.kll_floats_sketch.deserialize(data))

        return timed(act)

    def bytes(self, count):
        return sum(len(data) for data in self.serialized[:count]) / count


def timed(act):
    began = time.perf_counter_ns()
    act()
    return time.perf_counter_ns() - began


def main():
    turns = Turns()
    print(datasketches.__name__, flush=True)
    for line in sys.stdin:
        kind, count = line.split()
        print(getattr(turns, kind)(int(count)), flush=True)


if __name__ == "__main__":
    main()
