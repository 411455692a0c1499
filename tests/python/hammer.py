"""Asks a device without a pause, with the stock client of the Open Inference Protocol, while versions change under it.

hammer.py HOST:PORT MODEL IMAGES: IMAGES holds records of 64 pixel bytes and a label. Each line on the standard input
begins a phase of that name; its end ends the program, which prints one JSON line: for each phase the requests, what
failed, and the latencies. An answer that differs from earlier ones for the same image and the same parity of the
version has failed too: versions of one parity are one model.
"""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import tritonclient.http as triton

RECORD_BYTES = 65
MAX_FAILURES = 20


class Phases:
    """What happened, by the phase that the other side named last."""

    def __init__(self):
        self.name = None
        self.ended = threading.Event()
        self.of = {}

    def follow(self, lines):
        for line in lines:
            self.name = line.strip()
        self.ended.set()

    def note(self, latency, failure):
        phase = self.of.setdefault(self.name, {"latencies": [], "failed": []})
        phase["latencies"].append(latency)
        if failure and len(phase["failed"]) < MAX_FAILURES:
            phase["failed"].append(failure)

    def report(self):
        return {name: told(phase["latencies"], phase["failed"]) for name, phase in self.of.items() if name}


def told(latencies, failed):
    milliseconds = np.array(latencies) * 1_000
    p50, p99, p999 = np.percentile(milliseconds, [50, 99, 99.9])
    return {"requests": len(latencies), "failed": failed, "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "max_ms": milliseconds.max()}


def main(address, model, images_path):
    records = np.frombuffer(Path(images_path).read_bytes(), dtype=np.uint8).reshape(-1, RECORD_BYTES)
    images = records[:, :-1].astype(np.float32).reshape(-1, 1, 1, 8, 8)
    phases = Phases()
    threading.Thread(target=phases.follow, args=(sys.stdin,), daemon=True).start()
    client, known, number = triton.InferenceServerClient(address), {}, 0
    while not phases.ended.is_set():
        number = (number + 1) % len(images)
        began = time.perf_counter()
        failure = ask(client, model, images[number], known, number)
        phases.note(time.perf_counter() - began, failure)
    client.close()
    print(json.dumps(phases.report()))


def ask(client, model, image, known, number):
    tensor = triton.InferInput("image", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    try:
        answer = client.infer(model, [tensor])
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    key = (number, int(answer.get_response()["model_version"]) % 2)
    found = answer.as_numpy("probabilities")
    expected = known.setdefault(key, found)
    return None if np.array_equal(found, expected) else f"image {key[0]}: {found} after {expected}"


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
