"""What simulated people ask: a fixed stock of questions, each worded in several ways, and documents of any length."""

from typing import NamedTuple

from farthing.simulation.answers import CHARACTERS_PER_TOKEN, prose


class Question(NamedTuple):
    """One question and the ways people word it, the most common first."""

    topic: str
    wordings: tuple[str, ...]


_THINGS = (
    "my order", "my parcel", "my invoice", "my subscription", "my password", "my delivery address", "my refund",
    "my gift card", "my appointment", "my account", "my warranty", "my receipt", "my discount code", "my booking",
    "my payment card", "my phone number", "my email address", "my return label", "my membership", "my trial",
)  # fmt: skip
_DEEDS = ("change", "cancel", "find", "renew", "check", "share", "download", "correct", "move", "confirm")
_FORMS = (
    "How do I {deed} {thing}?",
    "how can i {deed} {thing}",
    "I would like to {deed} {thing}, what do I need to do?",
    "What is the way to {deed} {thing}?",
    "Please help me {deed} {thing}.",
    "Is it possible to {deed} {thing} online?",
)


def questions() -> tuple[Question, ...]:
    """The stock: 200 questions of six wordings each."""
    return tuple(
        Question(f"{deed} {thing}", tuple(form.format(deed=deed, thing=thing) for form in _FORMS))
        for deed in _DEEDS
        for thing in _THINGS
    )


FOLLOW_UPS = (
    "Thanks. And how long does that take?",
    "I tried that and it did not work. What else can I do?",
    "Could you explain the second step again?",
    "Is there a fee for it?",
    "Can you put that in one short paragraph?",
    "What happens if I do nothing?",
    "Does it make a difference that I live abroad?",
)

CODE_REQUESTS = (
    "Write a function that merges two sorted lists.",
    "Why does this loop never end? It reads lines until the file is empty.",
    "Add a test for the case where the list is empty.",
    "Rename the class and keep the old name working for one release.",
    "Make this query faster; it scans the whole table.",
    "Explain what the lock protects here.",
)

MAIL_LABELS = ("billing", "delivery", "returns", "praise", "spam")


def document(number: int, tokens: int) -> str:
    """A document of so many tokens, different for each number."""
    head = f"Report {number}. "
    return head + prose(number * 7919, max(0, tokens - len(head) // CHARACTERS_PER_TOKEN))
