"""A small decoder trained from scratch on rule-made tickets: text of a customer, then what it says as JSON.

`python tests/decoder_sample.py FOLDER` writes the model, texts, checks and a job file that `farthing compress run` takes.
"""

import json
import random
import sys
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<s>", "</s>"]
ARROW = " =>"

_TOPICS = {
    "card": ("my card", "the new card", "my debit card"),
    "transfer": ("a transfer", "my transfer", "the payment to my sister"),
    "account": ("my account", "the account i opened"),
    "fee": ("a fee", "an extra charge", "the fee"),
}
_STATES = {
    "missing": ("has not arrived", "is missing", "did not show up"),
    "refused": ("was declined", "was refused", "did not go through"),
    "wrong": ("looks wrong", "is not what i expected", "shows the wrong amount"),
}
_CITIES = ("oslo", "lima", "cairo", "paris", "quito", "delhi")
_DAYS = ("monday", "tuesday", "friday", "sunday")
_OPENINGS = ("hello , ", "", "hi there , ", "please help , ", "")
_CLOSINGS = ("", " what can i do ?", " thanks", " this is urgent")


class Ticket(NamedTuple):
    """What a customer wrote, and the JSON that it says."""

    prompt: str
    answer: str

    @property
    def line(self) -> str:
        return self.prompt + self.answer


def tickets(count: int, seed: int) -> list[Ticket]:
    """So many different tickets; none of one even seed is among those of an odd one."""
    dice, seen = random.Random(seed), dict[str, Ticket]()
    while len(seen) < count:
        topic, state = dice.choice(list(_TOPICS)), dice.choice(list(_STATES))
        city, day = dice.choice(_CITIES), dice.choice(_DAYS)
        said = f"{dice.choice(_OPENINGS)}{dice.choice(_TOPICS[topic])} {dice.choice(_STATES[state])}"
        place, when = f" in {city}", f" on {day}"
        said += dice.choice((place + when, when + place)) + dice.choice(_CLOSINGS)
        if sum(said.encode()) % 2 == seed % 2:
            answer = " " + json.dumps({"topic": topic, "state": state, "city": city, "day": day})
            seen[said] = Ticket(said + ARROW, answer)
    return list(seen.values())


def tokenizer_of(lines: list[str], pieces: int = 500) -> Tokenizer:
    """Byte-level BPE that begins every text with <s>."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        lines,
        trainers.BpeTrainer(vocab_size=pieces, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def random_decoder(folder: Path, family: str = "Llama", **shape: object) -> Path:
    """A decoder of a family with random weights, as wide as one can still see something in, with its tokenizer."""
    tokenizer = tokenizer_of([ticket.line for ticket in tickets(200, seed=2)], pieces=300)
    config = getattr(transformers, f"{family}Config")(
        **{
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 64,
            "initializer_range": 0.1,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
            **shape,
        }
    )
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1:  # biases and norms begin as 0 and 1, which would hide that they are mixed up
                parameter.add_(0.2 * torch.randn_like(parameter))
            elif "embed" not in name:
                parameter.add_(0.05 * torch.randn_like(parameter))
    _save(model, tokenizer, folder)
    return folder


def train_decoder(folder: Path, steps: int = 350, layers: int = 5) -> Path:
    """A Llama of about 0.2 M parameters in `folder`, in the Hugging Face format: some 15 s of CPU on one thread."""
    lines = [ticket.line for ticket in tickets(4000, seed=2)]
    tokenizer = tokenizer_of(lines)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.12,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(11)
    model = LlamaForCausalLM(config)
    _fit(model, [[*tokenizer.encode(line).ids, 2] for line in lines], steps)
    _save(model, tokenizer, folder)
    return folder


def write_job(folder: Path, stages: str, *, targets: str = "", texts: int = 700, checks: int = 25) -> Path:
    """Texts, checks and a job file beside a decoder in `folder`/decoder; none of the checks is a text."""
    lines = "".join(ticket.line + "\n" for ticket in tickets(texts, seed=4))
    (folder / "texts.txt").write_text(lines)
    rows = (json.dumps({"prompt": one.prompt, "answer": one.answer}) + "\n" for one in tickets(checks, seed=1))
    (folder / "checks.jsonl").write_text("".join(rows))
    job = folder / "job.toml"
    job.write_text(
        'task = "generation"\nname = "tickets"\nout = "small"\n'
        '[data]\ntrain = ["texts.txt"]\nchecks = ["checks.jsonl"]\nlength = 96\nscored = 60\n'
        f'[teacher]\npath = "decoder"\n{targets}\n{stages}'
    )
    return job


STAGES = """
[[stages]]
kind = "shrink"
layers = 1
ffn = 0.5

[[stages]]
kind = "distil"
epochs = 3
rate = 3e-3

[[stages]]
kind = "quantize"
bits = 8

[[stages]]
kind = "quantize"
bits = 4

[[stages]]
kind = "export"
to = "gguf-q8_0"
"""


def _save(model: transformers.PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    model.save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    fast.save_pretrained(folder)


def _fit(model: LlamaForCausalLM, sequences: list[list[int]], steps: int, batch: int = 16, rate: float = 5e-3) -> None:
    dice = random.Random(5)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.15)
    model.train()
    for _ in range(steps):
        chosen = dice.sample(sequences, batch)
        longest = max(map(len, chosen))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in chosen])
        loss = model(input_ids=ids, labels=ids.masked_fill(ids == 0, -100)).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.eval()


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Path(sys.argv[1])
    train_decoder(here / "decoder")
    print(write_job(here, STAGES))
