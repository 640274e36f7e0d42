"""A tiny Llama with random weights and a tokenizer of bytes, made on this machine: no network, no download.

It says nothing of sense, in printable characters, and never ends by itself where the most probable token is taken. That
is enough to try a service of language models.

    python examples/tiny_llama.py FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
#: Tokens are bytes; behind them is the one that ends a text.
END = 256
VOCAB = 257
PRINTABLE = range(32, 127)


def save_tokenizer(folder: Path) -> None:
    """A byte is a token, as in the tokenizers of models that know all bytes."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    # Each byte has a letter that stands for it: its own where that can be printed, another one else.
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    letter = {byte: chr(byte) for byte in plain} | {byte: chr(256 + number) for number, byte in enumerate(rest)}
    own = Tokenizer(models.BPE(vocab={letter[byte]: byte for byte in range(256)}, merges=[]))
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    own.decoder = decoders.ByteLevel()
    own.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=own, eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)


def save_model(folder: Path, seed: int = 0) -> Any:
    """Weights that are large enough for answers to differ by prompt."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.5,
        tie_word_embeddings=False,
        eos_token_id=END,
        bos_token_id=None,
        pad_token_id=END,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for token in set(range(VOCAB)) - set(PRINTABLE):
            model.lm_head.weight[token] = 0
    model.save_pretrained(folder)
    return model


def save(folder: Path) -> Any:
    """Both, in a folder; returns the model."""
    save_tokenizer(folder)
    return save_model(folder)


if __name__ == "__main__":
    save(Path(sys.argv[1]))
