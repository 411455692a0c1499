#!/usr/bin/env python3
"""Asks the usual canary rules about the streams of our simulation, and prints their table beside ours.

    cargo run --release -p fleet-core --example canary_streams -- 200 > streams.csv
    python3 tests/peers/canary_rules.py streams.csv

Each rule looks at every look of a day, as the tools do, and condemns for good when it fires once:
- Mann-Whitney (Kayenta's test, confidence 98 %) on the series of mean latencies of the two cohorts, from ten looks on;
- pooled z: latency and error rate over all inferences so far, each one-sided at p < 0.01;
- three strikes (a failure limit of three, as Argo Rollouts and Flagger count them): the canaries' error rate above 1.5
  times the controls', or their mean latency 5 % above, in three looks of the day.
None of them knows the devices' own past; that is the point.
"""

import csv
import sys
from collections import defaultdict
from statistics import median

import numpy as np
from scipy import stats

LOOK_MINUTES = 5
FIRST_LOOK = 10  # of Mann-Whitney: before that no series of two says anything at 98 %


def main():
    rollouts = read(sys.argv[1])
    rules = {
        "ours": ours,
        "Mann-Whitney 98 %": mann_whitney,
        "pooled z 0.01": pooled_z,
        "three strikes": three_strikes,
    }
    print("| scenario | " + " | ".join(rules) + " |")
    print("|" + "---|" * (len(rules) + 1))
    for scenario, streams in rollouts.items():
        cells = [cell([rule(stream) for stream in streams]) for rule in rules.values()]
        print(f"| {scenario} ({len(streams)}) | " + " | ".join(cells) + " |", flush=True)


def read(path):
    """Scenario to the list of its rollouts, each a table of columns."""
    rows = defaultdict(list)
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["scenario"], row["rollout"]].append(row)
    scenarios = defaultdict(list)
    for (scenario, _), looks in rows.items():
        numbers = {name: np.array([float(look[name]) for look in looks]) for name in looks[0] if "_" in name}
        scenarios[scenario].append(numbers | {"verdict": np.array([look["verdict"] for look in looks])})
    return scenarios


def cell(condemned_at):
    """The share of condemned rollouts and the median minutes until then."""
    minutes = [LOOK_MINUTES * look for look in condemned_at if look is not None]
    share = 100 * len(minutes) / len(condemned_at)
    return f"{share:.1f} % ({median(minutes):.0f} min)" if minutes else "0.0 %"


def first(fires):
    """The number, from 1, of the first look at which a rule fires."""
    return int(np.argmax(fires)) + 1 if fires.any() else None


def ours(stream):
    return first(stream["verdict"] == "degraded")


def mann_whitney(stream):
    canary = stream["canary_latency"] / stream["canary_n"]
    control = stream["control_latency"] / stream["control_n"]
    for look in range(FIRST_LOOK, len(canary) + 1):
        test = stats.mannwhitneyu(canary[:look], control[:look], alternative="greater", method="asymptotic")
        if test.pvalue < 0.02:
            return look
    return None


def pooled_z(stream):
    total = {name: np.cumsum(values) for name, values in stream.items() if name != "verdict"}
    critical = stats.norm.ppf(0.99)
    means, variances, rates = {}, {}, {}
    for side in ("canary", "control"):
        n = total[f"{side}_n"]
        means[side] = total[f"{side}_latency"] / n
        variances[side] = (total[f"{side}_latency_squares"] / n - means[side] ** 2) / n
        rates[side] = total[f"{side}_errors"] / n
    latency = (means["canary"] - means["control"]) / np.sqrt(variances["canary"] + variances["control"])
    n, m = total["canary_n"], total["control_n"]
    rate = (total["canary_errors"] + total["control_errors"]) / (n + m)
    spread = np.sqrt(np.maximum(rate * (1 - rate), 1e-12) * (1 / n + 1 / m))
    errors = (rates["canary"] - rates["control"]) / spread
    return first((latency > critical) | (errors > critical))


def three_strikes(stream):
    rate = {side: stream[f"{side}_errors"] / stream[f"{side}_n"] for side in ("canary", "control")}
    latency = {side: stream[f"{side}_latency"] / stream[f"{side}_n"] for side in ("canary", "control")}
    strikes = (rate["canary"] > 1.5 * rate["control"], latency["canary"] > 1.05 * latency["control"])
    looks = [first(np.cumsum(strike) >= 3) for strike in strikes]
    return min((look for look in looks if look is not None), default=None)


if __name__ == "__main__":
    main()
