"""A cascade over the stub: a student that knows how sure it is, and a larger model that is right."""

import json
from collections.abc import Callable, Iterator
from itertools import count

from farthing.config import ExactCache, Fallback, Route, Upstream
from farthing.simulation.labels import right_label, student_answer

ACCEPT = 0.9


def chat(text: str, **more: object) -> dict[str, object]:
    return {"model": "intent", "messages": [{"role": "user", "content": text}], **more}


def said(body: dict[str, object]) -> tuple[str, float, str]:
    """What the student says to a body, how sure it is, and what is right."""
    question = json.dumps(body["messages"]).encode()
    return *student_answer(question), right_label(question)


def bodies(fitting: Callable[[str, float, str], bool], **more: object) -> Iterator[dict[str, object]]:
    """Bodies of which the student's answer, its confidence and the right answer are as wanted."""
    return (body for number in count() if fitting(*said(body := chat(f"Question {number}?", **more))))


def sure(**more: object) -> Iterator[dict[str, object]]:
    return bodies(lambda answer, confidence, right: confidence >= ACCEPT and answer == right, **more)


def mistaken(**more: object) -> Iterator[dict[str, object]]:
    return bodies(lambda answer, confidence, right: confidence >= ACCEPT and answer != right, **more)


def unsure(**more: object) -> Iterator[dict[str, object]]:
    return bodies(lambda answer, confidence, right: confidence < ACCEPT, **more)


def cascade(large: str = "stub-labeller", upstream: Upstream | None = None, **rung: object) -> dict[str, object]:
    """Settings of a cascade of two: a student paid by the hour, and a larger model; nothing is tried twice."""
    first = {"accept": ACCEPT, **rung}
    return {
        "upstreams": {
            "student": Upstream(kind="stub", hourly_usd="0.05"),
            "large": upstream or Upstream(kind="stub"),
        },
        "routes": (
            Route(model="intent", upstream="student", served_as="stub-student", **first),
            Route(model="intent", upstream="large", served_as=large, rank=2),
        ),
        "cache": ExactCache(enabled=False),
        "fallback": Fallback(attempts=1),
    }
