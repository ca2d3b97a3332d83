"""How long until a deep model is there: import, and init and summary of a network like ResNet-152 (510 layers).

python -m benchmarks.startup          half a minute; writes results/startup.json
"""

import json
import statistics
import subprocess
import sys

from benchmarks.machine import RESULTS, describe

ROUNDS = 5
PROGRAM = """
import time
start = time.perf_counter()
import jax
after_jax = time.perf_counter()
import fnn
after_fnn = time.perf_counter()
from benchmarks.startup import resnet152
model, image = resnet152(), (1, 224, 224, 3)
before = time.perf_counter()
jax.block_until_ready(model.init(jax.random.key(0), image))
initialised = time.perf_counter()
fnn.summary(model, image)
print(after_jax - start, after_fnn - after_jax, initialised - before, time.perf_counter() - initialised)
"""


def resnet152():
    """Bottleneck residual blocks, 3 + 8 + 36 + 3 of them (He et al., 2016, table 1)."""
    import fnn

    def conv_norm(features, window, stride=1):
        return fnn.conv(features, window, stride=stride, padding=window // 2, bias=False), fnn.batch_norm()

    def block(features, stride, project):
        body = fnn.serial(
            *conv_norm(features, 1),
            fnn.relu(),
            *conv_norm(features, 3, stride),
            fnn.relu(),
            *conv_norm(4 * features, 1),
        )
        shortcut = fnn.serial(*conv_norm(4 * features, 1, stride)) if project else None
        return fnn.residual(body, shortcut, after=fnn.relu())

    blocks = [
        block(features, 2 if stage > 0 and i == 0 else 1, i == 0)
        for stage, (features, count) in enumerate([(64, 3), (128, 8), (256, 36), (512, 3)])
        for i in range(count)
    ]
    stem = (*conv_norm(64, 7, 2), fnn.relu(), fnn.max_pool(3, stride=2, padding=1))
    return fnn.serial(*stem, *blocks, fnn.global_avg_pool(), fnn.dense(1000))


def main():
    """Run each round in a fresh process and write the medians."""
    names = ("import_jax", "import_fnn", "init", "summary")
    rounds = []
    for _ in range(ROUNDS):
        printed = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True).stdout
        rounds.append(dict(zip(names, map(float, printed.split()), strict=True)))
    medians = {f"median_{name}_seconds": statistics.median(row[name] for row in rounds) for name in names}
    report = {"machine": describe(), "rounds": rounds, **medians}
    print(json.dumps(medians, indent=1))
    (RESULTS / "startup.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
