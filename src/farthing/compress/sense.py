"""What a job must agree on with itself, beyond each of its values being valid alone."""

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from farthing.compress.job import Distil, Job, Prune, Quantize


def senseless(job: Job, given: Mapping[str, Any]) -> Iterator[str]:
    """Everything that makes this job impossible; `given` is what its file says, without defaults."""
    if not job.name.strip():
        yield 'name is empty; give the result one, such as "banking"'
    if job.name != job.name.strip() or any(letter in job.name for letter in "/\\\0"):
        yield f"name is {job.name!r}; it names a model, so no slashes and no blanks around it"
    if not job.out.strip():
        yield "out is empty; name the folder for the result"
    yield from _of_data(job, given.get("data", {}))
    yield from _of_teacher(job)
    yield from _of_stages(job)
    yield from _of_targets(job)


def _of_data(job: Job, given: Mapping[str, Any]) -> Iterator[str]:
    data = job.data
    if not data.train and not (data.unlabeled and job.task == "embedding"):
        yield "data.train is empty; name a file of examples"
    for name in ("train", "dev", "test", "unlabeled", "outside"):
        files: tuple[str, ...] = getattr(data, name)
        if "" in files:
            yield f"data.{name} names a file with an empty name"
        for file in sorted({file for file in files if files.count(file) > 1}):
            yield f"data.{name} names {file} twice"
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        for file in sorted(set(getattr(data, first)) & set(getattr(data, second))):
            yield f"data.{first} and data.{second} both name {file}; what is learned from cannot also be the measure"
    if job.task == "embedding" and "label" in given:
        yield "data.label is given, and an embedding has no labels; data.second may name the text that means the same"
    if job.task == "tagging" and data.second:
        yield "data.second is given, and tagging takes one text at a time"
    if job.task == "multi-label" and not data.separator:
        yield "data.separator is empty, so that the labels of a text cannot be told apart"
    columns = [column for column in (data.text, data.label, data.second) if column]
    if len(set(columns)) < len(columns) and job.task != "embedding":
        yield f"data.text, data.label and data.second must be columns of their own; they are {', '.join(columns)}"
    if data.augment.copies and not data.augment.operations:
        yield "data.augment makes copies by no operation; name some, or make copies = 0"


def _of_teacher(job: Job) -> Iterator[str]:
    teacher = job.teacher
    if teacher.path != teacher.path.strip():
        yield f"teacher.path is {teacher.path!r}, with blanks around it"
    if teacher.finished and not teacher.path:
        yield "teacher.path is empty, and teacher.finished = true takes a teacher as it is; name its folder"
    if teacher.finished and teacher.members > 1:
        yield f"teacher.finished leaves nothing to train, and teacher.members = {teacher.members} asks to train several"
    if job.task == "embedding" and not teacher.finished:
        yield "teacher.finished is false, and a teacher of embeddings is not trained here; set it to true"
    if not teacher.finished and not teacher.epochs:
        yield "teacher.epochs is 0, which trains no teacher; teacher.finished = true takes one as it is"
    labeller = teacher.labeller
    if labeller is not None:
        if job.task != "classification":
            yield f'teacher.labeller names one label for a text, and the task is "{job.task}"'
        if not labeller.model.strip():
            yield "teacher.labeller.model is empty"
        if urlsplit(labeller.base_url).scheme not in ("http", "https"):
            yield f'teacher.labeller.base_url is "{labeller.base_url}"; expected an http:// or https:// address'
        if labeller.key and not labeller.key.startswith(("env:", "file:")):
            yield 'teacher.labeller.key must say where the key is kept, "env:NAME" or "file:/path", and not what it is'


def _of_stages(job: Job) -> Iterator[str]:
    if not job.stages:
        yield 'stages is empty; name one at least, such as [[stages]] with kind = "distil"'
    quantized = -1
    for index, stage in enumerate(job.stages):
        place = f"stages[{index}]"
        if quantized >= 0:
            yield (
                f"{place} ({_kind(stage)}) comes after stages[{quantized}] (quantize): whole numbers cannot be "
                "trained, so that nothing can follow it; put quantize last"
            )
        if isinstance(stage, Quantize):
            quantized = index if quantized < 0 else quantized
            yield from _of_quantize(stage, place)
        elif isinstance(stage, Prune):
            yield from _of_prune(stage, place)
        else:
            yield from _of_layers(stage, place)
        if not isinstance(stage, Quantize) and not any(_weights(stage)):
            yield f"{place}.losses are all 0, so that nothing would be learned"


def _of_layers(stage: Distil, place: str) -> Iterator[str]:
    if isinstance(stage.layers, int):
        return
    if not stage.layers:
        yield f"{place}.layers is empty; say which layers of the teacher to keep, or how many"
    for layer in sorted({layer for layer in stage.layers if stage.layers.count(layer) > 1}):
        yield f"{place}.layers names layer {layer} twice"
    if any(layer < 0 for layer in stage.layers):
        yield f"{place}.layers has a negative number; layers count from 0, the lowest"
    if list(stage.layers) != sorted(stage.layers):
        yield f"{place}.layers is {list(stage.layers)}; name the layers from the lowest up"


def _of_prune(stage: Prune, place: str) -> Iterator[str]:
    if not any((stage.heads, stage.ffn, stage.width, stage.layers, stage.vocabulary)):
        yield f"{place} prunes nothing; say how many heads, ffn, width, layers or vocabulary are to be left"
    if stage.steps > max(stage.epochs, 1):
        yield f"{place} recovers for {stage.epochs} epochs, too few for {stage.steps} steps with recovery after each"


def _of_quantize(stage: Quantize, place: str) -> Iterator[str]:
    if not stage.recipes:
        yield f"{place}.recipes is empty; name one at least"
    for recipe in sorted({recipe for recipe in stage.recipes if stage.recipes.count(recipe) > 1}):
        yield f'{place}.recipes names "{recipe}" twice'


def _of_targets(job: Job) -> Iterator[str]:
    if job.search is not None:
        if not any(isinstance(stage, Distil | Prune) for stage in job.stages):
            yield "search tries sizes of distil and prune, and stages has neither"
        if 2 ** (job.search.rungs - 1) > job.search.trials:
            yield (
                f"search halves {job.search.trials} trials in each of {job.search.rungs} rungs, "
                "which leaves none for the last"
            )
    if job.targets.usd_per_1k and not job.machine.usd_per_h:
        yield "targets.usd_per_1k asks for a cost, and machine.usd_per_h is 0"


def _weights(stage: Distil | Prune) -> tuple[float, ...]:
    losses = stage.losses
    return (losses.soft, losses.hard, losses.pooled, losses.hidden, losses.relations, losses.contrastive)


def _kind(stage: Distil | Prune | Quantize) -> str:
    return str(stage.__struct_config__.tag)
