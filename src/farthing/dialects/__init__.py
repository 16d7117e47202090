"""Wire formats to Call and Reply and back: what was asked, what was answered, what it used, and how to say so."""

from farthing.dialects.answers import Reading, is_object, read
from farthing.dialects.catalogue import model_body, models_body
from farthing.dialects.endpoints import ENDPOINTS, endpoint_at
from farthing.dialects.pacing import read_pacing
from farthing.dialects.refusals import error_body, error_frame
from farthing.dialects.relayed import answered_tokens
from farthing.dialects.rendering import render
from farthing.dialects.requests import decode, encode
from farthing.dialects.retrieving import read_retrieved, retrievable
from farthing.dialects.streams import StreamReader
from farthing.dialects.texts import answer_text, fingerprint
from farthing.schema import Dialect

__all__ = [
    "ENDPOINTS",
    "Dialect",
    "Reading",
    "StreamReader",
    "answer_text",
    "answered_tokens",
    "decode",
    "encode",
    "endpoint_at",
    "error_body",
    "error_frame",
    "fingerprint",
    "is_object",
    "model_body",
    "models_body",
    "read",
    "read_pacing",
    "read_retrieved",
    "render",
    "retrievable",
]
