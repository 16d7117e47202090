"""Kinds of replicas for a mixed fleet: what each serves of every size of request, from the model of serving."""

import math
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from farthing.economics.deployment import Deployment, Workload
from farthing.economics.factors import Factors
from farthing.economics.memory import capacity, sequences_that_fit
from farthing.economics.money.fleet_mix import Bucket, Replica
from farthing.economics.operating import highest_rate
from farthing.economics.predicting import curves_of
from farthing.economics.searching.options import Option, Question
from farthing.economics.searching.search import search
from farthing.economics.searching.space import in_words


def replica_kinds(
    question: Question, buckets: Sequence[Bucket], factors_of: Callable[[Deployment], Factors]
) -> list[Replica]:
    """The best layouts of each kind of hardware for each bucket, and what each serves of every bucket.

    The workload of the question is replaced by each bucket in turn. Raises RequestError for input that makes no sense.
    """
    options: dict[str, Option] = {}
    for bucket in buckets:
        found = search(msgspec.structs.replace(question, workload=_workload(bucket)), factors_of)
        for outlook in found.outlooks:
            if outlook.option is not None:
                options.setdefault(_name(outlook.option.deployment), outlook.option)
    return [
        Replica(
            name=name,
            hardware=option.deployment.hardware.name,
            devices=option.deployment.devices,
            usd_per_device_h=option.offer.usd_per_device_h,
            requests_per_s=tuple(_served(option.deployment, bucket, question, factors_of) for bucket in buckets),
        )
        for name, option in options.items()
    ]


def _workload(bucket: Bucket) -> Workload:
    return Workload(bucket.input_tokens, bucket.output_tokens, requests_per_s=bucket.requests_per_s)


def _name(deployment: Deployment) -> str:
    return f"{deployment.hardware.name} {in_words(deployment)}, batch {deployment.max_sequences}"


def _served(
    deployment: Deployment, bucket: Bucket, question: Question, factors_of: Callable[[Deployment], Factors]
) -> float | None:
    """Requests per second of one bucket that a replica serves within the limits; None for none at all."""
    tokens = math.ceil(bucket.input_tokens + bucket.output_tokens / 2)
    slots = min(sequences_that_fit(capacity(deployment), tokens), deployment.max_sequences)
    if slots < 1:
        return None
    factors = factors_of(deployment)._replace(burst=0.0)
    curves = curves_of(deployment, factors, _workload(bucket), slots)
    rate = highest_rate(curves, bucket.output_tokens, question.slo.bounds)[0].item() * deployment.data
    return rate if rate > 0 and np.isfinite(rate) else None
