"""Models found by search, whose layers differ from one another (Llama-Nemotron Super and Ultra)."""

from farthing.economics.architecture import Architecture
from farthing.economics.facts.huggingface.config import Config, Layers
from farthing.economics.facts.huggingface.decoders import decoder


def nemotron_nas(config: Config) -> Architecture:
    """Llama-Nemotron Super and Ultra: some layers lack attention, and feed-forward widths vary; their mean is kept."""
    hidden, heads = config.count("hidden_size"), config.count("num_attention_heads")
    attends, groups, widths = 0, set(), []
    for number, item in enumerate(config.items("block_configs")):
        block = Config(f"{config.model}, block {number}", item if isinstance(item, dict) else {})
        attention, ffn = block.part("attention"), block.part("ffn")
        if attention is None or ffn is None:
            raise config.wrong(f"has a block {number} without attention or ffn")
        if not attention.flag("no_op", False) and not attention.flag("replace_with_linear", False):
            attends += 1
            groups.add(attention.count("n_heads_in_group"))
        if not ffn.flag("no_op", False) and not ffn.flag("replace_with_linear", False):
            widths.append(_width(block, ffn, hidden))
    if not attends or not widths or len(groups) != 1:
        raise config.wrong(f"has {attends} layers with attention, in groups of {sorted(groups)}")
    words = {"num_hidden_layers": attends, "num_key_value_heads": max(heads // groups.pop(), 1)}
    return decoder(
        Config(config.model, words).over(config),
        attends=Layers(attends),
        ffn=round(sum(widths) / len(widths)),
        ffn_layers=len(widths),
        dense_layers=len(widths),
    )


def _width(block: Config, ffn: Config, hidden: int) -> int:
    """The width that a multiple of the hidden size stands for: two thirds of it, rounded up to 256 (Llama's rule)."""
    multiple = ffn.first("ffn_mult")
    if isinstance(multiple, bool) or not isinstance(multiple, int | float) or not 0 < multiple < 1000:
        raise block.wrong(f"has ffn_mult = {multiple!r}, where a number above 0 belongs")
    width = int(2 * multiple * hidden / 3)
    return -(-width // 256) * 256
