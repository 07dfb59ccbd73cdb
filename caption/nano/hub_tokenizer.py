"""nano's tokenizer as `tokenizers` and transformers load it: tokenizer.json and tokenizer_config.json.

`open_clip.get_tokenizer("local-dir:FOLDER")` takes it without arguments, because the config of the folder
names it. It gives the tokens of open_clip's SimpleTokenizer with the merges of the folder.
"""

import json
from typing import Any

Json = dict[str, Any]

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
# Entries of text_cfg: open_clip looks for the tokenizer in the folder itself, and lowers texts as before.
TEXT_CONFIG: Json = {"hf_tokenizer_name": "nano", "tokenizer_kwargs": {"clean": "lower"}}

_START, _END = "<start_of_text>", "<end_of_text>"
# SimpleTokenizer pads with number 0, which is a byte's too. No text contains this name, as texts are lowered.
_PAD = "<PAD>"
_WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def files(merges: list[str], alphabet: list[str], length: int) -> dict[str, bytes]:
    """Returns the two files by name.

    `merges` are the pairs of the list, `alphabet` the characters that stand for the 256 bytes, and `length`
    is the context length."""
    words = [*alphabet, *(f"{c}</w>" for c in alphabet), *("".join(m.split()) for m in merges), _START, _END]
    vocabulary = {word: number for number, word in enumerate(words)}
    start, end = vocabulary[_START], vocabulary[_END]
    added = [_special(0, _PAD), _special(start, _START), _special(end, _END)]
    split = {"type": "Split", "pattern": {"Regex": _WORDS}, "behavior": "Removed", "invert": True}
    as_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "</w>",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {**vocabulary, _PAD: 0},
        "merges": [m.split() for m in merges],
    }
    tokenizer = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, as_bytes]},
        "post_processor": _between(start, end),
        "decoder": {"type": "BPEDecoder", "suffix": "</w>"},
        "model": model,
    }
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": length,
        "bos_token": _START,
        "eos_token": _END,
        "pad_token": _PAD,
        "clean_up_tokenization_spaces": False,
    }
    return {FILE: _encoded(tokenizer), CONFIG: _encoded(settings)}


def _special(number: int, word: str) -> Json:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": word, **flags}


def _between(start: int, end: int) -> Json:
    """Returns the step that puts a text between the tokens of start and end."""
    tokens = {_START: start, _END: end}
    special = {word: {"id": word, "ids": [n], "tokens": [word]} for word, n in tokens.items()}
    first, last = ({"SpecialToken": {"id": word, "type_id": 0}} for word in tokens)
    one, two = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    pair = [first, one, last, first, two, last]
    return {"type": "TemplateProcessing", "single": pair[:3], "pair": pair, "special_tokens": special}


def _encoded(tree: Json) -> bytes:
    return json.dumps(tree, indent=1, ensure_ascii=False).encode() + b"\n"
