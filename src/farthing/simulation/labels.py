"""Simulated classification: a small model that knows how sure it is, and a larger one that is always right."""

from blake3 import blake3

STUDENT = "stub-student"
"""The model that answers with a label and a confidence, and is right as often as it says."""
LABELLER = "stub-labeller"
"""The model that answers with the right label."""
LABELS = ("card_arrival", "card_lost", "exchange_rate", "top_up_failed", "transfer_pending")


def right_label(question: bytes) -> str:
    """The label of a question: any, and always the same."""
    return LABELS[blake3(question).digest(1)[0] % len(LABELS)]


def student_answer(question: bytes, seed: int = 0) -> tuple[str, float]:
    """What the student says, and how sure it is of it.

    Its confidence c is spread evenly over [0.5, 1), and it is right with probability c: it is calibrated.
    """
    dice = blake3(question).update(b"student %d" % seed).digest(8)
    confidence = 0.5 + int.from_bytes(dice[:4], "little") / 2**33
    right = right_label(question)
    if int.from_bytes(dice[4:], "little") / 2**32 < confidence:
        return right, confidence
    return LABELS[LABELS.index(right) - 1], confidence
