"""Encoders on disk: weights, shape and tokenizer in a folder."""

from pathlib import Path
from typing import NamedTuple

import msgspec
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

from farthing.compress.networks.encoder import Encoder, EncoderShape


class Kept(NamedTuple):
    """An encoder with the tokenizer it was trained with, and the number of the token that fills up batches."""

    encoder: Encoder
    tokenizer: Tokenizer
    padding: int


class _Kept(msgspec.Struct):
    shape: EncoderShape
    padding: int


def save_encoder(folder: Path, kept: Kept) -> None:
    """Write an encoder into a folder that exists."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in kept.encoder.state_dict().items()}
    save_file(state, folder / "weights.safetensors")
    kept.tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "encoder.json").write_bytes(msgspec.json.encode(_Kept(kept.encoder.shape, kept.padding)))


def load_encoder(folder: Path) -> Kept:
    """The encoder that `save_encoder` wrote."""
    kept = msgspec.json.decode((folder / "encoder.json").read_bytes(), type=_Kept)
    encoder = Encoder(kept.shape)
    encoder.load_state_dict(load_file(folder / "weights.safetensors"))
    return Kept(encoder, Tokenizer.from_file(str(folder / "tokenizer.json")), kept.padding)
