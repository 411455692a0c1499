#!/usr/bin/env python3
"""Asks Evidently, with its defaults, about the streams of our drift detector, and prints its table beside ours.

    cargo run --release -p muster-sketch --example drift_streams -- streams
    python3 -m venv evidently && evidently/bin/pip install evidently==0.7.23 pandas==2.3.3
    evidently/bin/python tests/peers/evidently_drift.py streams

(Evidently 0.7.23 does not import with pandas 3.) Each stream is cut into windows of 1,000 or 200 values, one after the other, as a scheduled
job does, and every window is compared with the whole reference. Evidently chooses the test and its limit by itself: for a reference of more
than 1,000 rows the Wasserstein distance divided by the standard deviation, or for categories the Jensen-Shannon distance, at 0.1; for
1,000 rows and fewer Kolmogorov-Smirnov at p < 0.05. What `DataDriftPreset` runs for a column is called directly, which is a hundred times
as fast; that both say the same is checked on the first window of every scenario.

A delay is from the change to the end of the first window that begins or goes on after it and is flagged.
"""

import csv
import os
import sys

# One window is too little work for several threads. BLAS reads this when it is imported, hence before the imports below.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.legacy.calculations.stattests.registry import get_stattest
from evidently.presets import DataDriftPreset

WINDOWS = (1_000, 200)
# Of small windows so many are flagged without drift that fewer streams tell how many.
SILENT_RUNS = {1_000: 100, 200: 20}
KINDS = {"num": "number", "cat": "category"}


def main():
    directory = Path(sys.argv[1])
    print("| stream | ours | " + " | ".join(f"Evidently, windows of {size:,}" for size in WINDOWS) + " |")
    print("|" + "---|" * (2 + len(WINDOWS)))
    for (name, kind, rows), runs in read(directory / "streams.csv").items():
        check_shortcut(directory, kind, runs[0])
        label = f"{name} ({KINDS[kind]}, reference of {int(rows):,})"
        is_silent = name == "no drift"
        show = silence if is_silent else delays
        cells = [show(runs, [ours(run) for run in runs])]
        for size in WINDOWS:
            some = runs[: SILENT_RUNS[size]] if is_silent else runs
            cells.append(show(some, [evidently(directory, kind, run, size, is_silent) for run in some]))
        print(f"| {label} | " + " | ".join(cells) + " |", flush=True)


def read(path):
    """The runs of each scenario, each with its number."""
    scenarios = {}
    with open(path, newline="", encoding="utf-8") as file:
        for number, run in enumerate(csv.DictReader(file)):
            key = (run["scenario"], run["kind"], run["reference"])
            scenarios.setdefault(key, []).append(run | {"number": number})
    return scenarios


def values(directory, kind, run):
    """Reference and stream."""
    stored = np.fromfile(directory / f"{run['number']}.f32", dtype="<f4")
    series = pd.Series(stored.astype("float64") if kind == "num" else stored.astype(int).astype(str))
    rows = int(run["reference"])
    return series[:rows].reset_index(drop=True), series[rows:].reset_index(drop=True)


def ours(run):
    """Alarms before the change, and the samples from it to the first one after it."""
    if not run["ours"]:
        return 0, None
    after = int(run["ours"]) - int(run["change"])
    return (1, None) if after <= 0 else (0, after)


def evidently(directory, kind, run, size, to_the_end):
    """The same of its windows."""
    reference, stream = values(directory, kind, run)
    change, flagged = int(run["change"]), 0
    for end in range(size, len(stream) + 1, size):
        if not to_the_end and end <= change:
            continue
        if is_flagged(kind, reference, stream[end - size : end]):
            if not to_the_end:
                return 0, end - change
            flagged += 1
    return flagged, None


def is_flagged(kind, reference, window):
    test = get_stattest(reference, window, kind, None)
    return bool(test(reference, window, kind, None).drifted)


def check_shortcut(directory, kind, run):
    """That the preset says of a window what the test says that it runs."""
    reference, stream = values(directory, kind, run)
    window = stream[: WINDOWS[0]].reset_index(drop=True)
    columns = {"numerical_columns" if kind == "num" else "categorical_columns": ["value"]}
    data = [Dataset.from_pandas(pd.DataFrame({"value": it}), DataDefinition(**columns)) for it in (window, reference)]
    metrics = Report([DataDriftPreset()]).run(*data).dict()["metrics"]
    drifted, score = metrics[0]["value"]["count"], metrics[1]["value"]
    test = get_stattest(reference, window, kind, None)
    result = test(reference, window, kind, None)
    assert bool(drifted) == bool(result.drifted) and np.isclose(float(score), float(result.drift_score)), metrics
    assert test.display_name in metrics[1]["metric_name"], metrics


def silence(runs, column):
    samples = sum(int(run["stream"]) for run in runs)
    alarms = sum(alarms for alarms, _ in column)
    return f"**{alarms}** in {samples / 1e6:.1f} million samples: {1e6 * alarms / samples:.3g} in a million"


def delays(_, column):
    found = sorted(delay for _, delay in column if delay is not None)
    early = sum(alarms for alarms, _ in column)
    never = len(column) - len(found) - early
    text = f"{median(found + [float('inf')] * never):,.0f}" if 2 * len(found) > len(column) else "not found by half"
    text += f", {never} of {len(column)} never" if never else ""
    return text + (f", {early} before the change" if early else "")


if __name__ == "__main__":
    main()
