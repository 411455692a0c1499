#!/usr/bin/env python3
"""onnxruntime as the peer of the benches: the same model, the same input, one thread.

The input is a file of little-endian f32 in the shape that the model asks for; it is read before anything is timed.

Usage: bench_onnxruntime.py serve MODEL INPUT          answers `ready` after one run, then a list of times in
                                                       microseconds to every line with a number of runs
       bench_onnxruntime.py golden MODEL INPUT NPZ     writes the answer as golden vectors of one case
       bench_onnxruntime.py library                    prints the file that holds the engine
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime


def main():
    command, *paths = sys.argv[1:]
    if command == "serve":
        serve(*open_model(*paths))
    elif command == "golden":
        write_golden(*open_model(*paths[:2]), paths[2])
    elif command == "library":
        print(max(library_files(), key=lambda file: file.stat().st_size))
    else:
        sys.exit(__doc__)


def open_model(model, data):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (wanted,) = session.get_inputs()
    value = np.fromfile(data, dtype="<f4").reshape(wanted.shape)
    return session, {wanted.name: value}


def serve(session, inputs):
    session.run(None, inputs)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps([time_run(session, inputs) for _ in range(int(line))]), flush=True)


def time_run(session, inputs):
    since = time.perf_counter_ns()
    session.run(None, inputs)
    return (time.perf_counter_ns() - since) / 1_000


def write_golden(session, inputs, path):
    outputs = session.run(None, inputs)
    arrays = {f"inputs/{name}": value[np.newaxis] for name, value in inputs.items()}
    arrays |= {f"outputs/{spec.name}": value[np.newaxis] for spec, value in zip(session.get_outputs(), outputs)}
    np.savez(path, **arrays)


def library_files():
    return (Path(onnxruntime.__file__).parent / "capi").glob("*.so*")


if __name__ == "__main__":
    main()
