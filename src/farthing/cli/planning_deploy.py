"""What `farthing plan search --emit` writes: the best option as files that run it."""

import math
from collections.abc import Iterator

import msgspec

from farthing.economics.calibrating.calibration import Calibration
from farthing.economics.memory import weights_bytes
from farthing.economics.searching.anatomy import thresholds
from farthing.economics.searching.options import Question
from farthing.economics.searching.stated import Stated
from farthing.errors import RequestError
from farthing.exporters.manifests import FORMATS, Choice, Replicas, written

LOADING_BYTES_PER_S = 1e9
"""How fast weights come from a disk of the node; what is downloaded first takes longer."""
STARTING_S = 60.0
SPARE = 2.0
"""How much more than the mean prompt and answer a request may take before the engine refuses it."""
HEADROOM = 1.5
"""How many more replicas than planned the autoscaler may start."""


class Image(msgspec.Struct, frozen=True):
    """What is run: the Hugging Face ids of the model and of its quantised weights, and the release of the engine."""

    model_id: str
    checkpoint: str
    tag: str


def deployed(question: Question, best: Stated, calibration: Calibration, image: Image) -> tuple[tuple[str, str], ...]:
    """The name and text of every file that the best option can be written as; raises RequestError when none can."""
    option, workload = best.option, question.workload
    deployment = option.deployment
    limits = thresholds(option, workload, question.slo, calibration.factors)
    held = weights_bytes(deployment.architecture, deployment.weights).total
    choice = Choice(
        deployment=deployment,
        model_id=image.model_id,
        checkpoint=image.checkpoint,
        max_model_len=math.ceil(SPARE * (workload.input_tokens + workload.output_tokens) / 256) * 256,
        replicas=Replicas(option.replicas, math.ceil(option.replicas * HEADROOM)),
        running_per_replica=math.floor(limits.running),
        waiting_per_replica=math.floor(limits.waiting),
        cold_start_s=STARTING_S + held / LOADING_BYTES_PER_S,
        image_tag=image.tag,
        longest_request_s=max(1.0, 3 * option.e2e_s),
        requests_per_s_per_replica=limits.requests_per_s,
    )
    return tuple(_files(choice))


def _files(choice: Choice) -> Iterator[tuple[str, str]]:
    refused: list[RequestError] = []
    wrote = False
    for form in FORMATS:
        try:
            yield written(choice, form)
            wrote = True
        except RequestError as error:
            refused.append(error)
    if not wrote:
        raise refused[0]
