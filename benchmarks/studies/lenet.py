"""The README's first command with five seeds: test accuracy and wall time of the whole script.

python -m benchmarks.studies.lenet            about two minutes; writes results/lenet.json
"""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing.machine import describe
from benchmarks.timing.results import RESULTS, write

SCRIPT = Path(__file__).parents[2] / "examples" / "lenet_digits.py"
SEEDS = 5


def run(seed):
    """One run in a fresh process: compilation and pictures are in the time."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, SCRIPT, "--seed", str(seed), "--out", folder]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        seconds = time.perf_counter() - start
    accuracy = float(re.search(r"test accuracy ([\d.]+)%", printed).group(1))
    ratio = float(re.search(r"auto takes ([\d.]+) times", printed).group(1))
    return {"seed": seed, "accuracy_percent": accuracy, "seconds": seconds, "auto_over_hand": ratio}


def main():
    """Run all seeds and write the medians."""
    report = {"machine": describe(), "runs": [run(seed) for seed in range(SEEDS)]}
    for name in ("accuracy_percent", "seconds", "auto_over_hand"):
        report[f"median_{name}"] = statistics.median(row[name] for row in report["runs"])
    print(json.dumps(report, indent=1))
    write(RESULTS / "lenet.json", report)


if __name__ == "__main__":
    main()
