"""Tiny models with random weights that lie in their folders as the paper's models are published.

Architecture, file list, form of the weights and tokenizer are those of the repositories; only sizes and vocabularies are small. Each builder
writes one folder and returns it; `REPOSITORIES` names them as the hub does. Vocabularies are learned from the demo's texts.

- BioBERT: config.json, vocab.txt (cased), pytorch_model.bin; no tokenizer_config.json.
- SapBERT: safetensors, uncased WordPiece with its tokenizer files.
- KrissBERT: pytorch_model.bin, uncased WordPiece, markers `<ENT>`, `</ENT>` as added tokens behind the vocabulary.
- Llama-2 chat: sharded safetensors and sharded .bin, SentencePiece with byte fallback, no padding token, a chat template that writes its own
  beginning of text, and a generation_config of its own (temperature 0.6, top-p 0.9).
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

DEMO = Path(__file__).resolve().parents[1] / "resources" / "demo"
WORDS = 1200
"""Entries of the WordPiece vocabularies."""
PIECES = 800
"""Entries of the SentencePiece vocabulary; 259 of them are special or single bytes."""

CHAT = (
    "{% if messages[0]['role'] == 'system' %}{% set head, turns = '<<SYS>>\\n' + messages[0]['content'] + '\\n<</SYS>>\\n\\n', messages[1:] %}"
    "{% else %}{% set head, turns = '', messages %}{% endif %}{% for turn in turns %}"
    "{% if (turn['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate: user, assistant, user, ...') }}{% endif %}"
    "{% if turn['role'] == 'user' %}{{ bos_token + '[INST] ' + (head if loop.first else '') + turn['content'].strip() + ' [/INST]' }}"
    "{% else %}{{ ' ' + turn['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}"
)
"""A template that behaves as Llama-2 chat's: the beginning of text is part of it, roles alternate, a system message is optional."""


def sentences() -> Iterator[str]:
    """The demo's texts, line by line."""
    for path in [*sorted((DEMO / "semeval").rglob("*.text")), *sorted((DEMO / "ncbi").glob("*.txt")), DEMO / "names.tsv"]:
        yield from (line for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


@cache
def wordpieces(lowercase: bool) -> tuple[str, ...]:
    """A WordPiece vocabulary in the order of vocab.txt: [PAD], unused entries, special tokens, word pieces."""
    from tokenizers import BertWordPieceTokenizer

    learner = BertWordPieceTokenizer(lowercase=lowercase, strip_accents=lowercase)
    learner.train_from_iterator(sentences(), vocab_size=WORDS - 10, min_frequency=1, special_tokens=["[UNK]", "[CLS]", "[SEP]", "[MASK]"], show_progress=False)
    learned = [word for word, _ in sorted(learner.get_vocab().items(), key=lambda item: item[1])]
    return ("[PAD]", *(f"[unused{i}]" for i in range(1, 10)), *learned)


def bert_config(vocabulary: int) -> "object":
    """A BERT of two layers."""
    from transformers import BertConfig

    shape = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 512}
    return BertConfig(vocab_size=vocabulary, type_vocab_size=2, initializer_range=0.2, **shape)


def _write(folder: Path, name: str, data: object) -> None:
    (folder / name).write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


def _bert(folder: Path, lowercase: bool, rows: int | None = None, seed: int = 1) -> dict[str, torch.Tensor]:
    """config.json and vocab.txt of a masked language model, and its weights as the old .bin files hold them."""
    from transformers import BertForPreTraining

    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = wordpieces(lowercase)
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8")
    torch.manual_seed(seed)
    model = BertForPreTraining(bert_config(rows or len(vocabulary)))
    described = model.config.to_dict()
    kept = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings", "vocab_size", "type_vocab_size")
    old = {key: described[key] for key in kept} | {"model_type": "bert", "hidden_act": "gelu", "initializer_range": 0.02, "layer_norm_eps": 1e-12}
    _write(folder, "config.json", old)
    # Old files share the memory of tied weights, hold a buffer of positions, and have the first names of layer norms.
    weights = dict(model.state_dict())
    weights["cls.predictions.decoder.weight"] = weights["bert.embeddings.word_embeddings.weight"]
    weights["bert.embeddings.position_ids"] = torch.arange(512)[None]
    return weights


def biobert(folder: Path) -> Path:
    """dmis-lab/biobert-base-cased-v1.1: cased, .bin, no tokenizer_config.json."""
    weights = _bert(folder, lowercase=False, seed=1)
    torch.save({key.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for key, v in weights.items()}, folder / "pytorch_model.bin")  # fmt: skip
    return folder


def sapbert(folder: Path) -> Path:
    """cambridgeltl/SapBERT-from-PubMedBERT-fulltext: uncased, safetensors of the encoder alone."""
    from safetensors.torch import save_file

    weights = _bert(folder, lowercase=True, seed=2)
    encoder = {key.removeprefix("bert."): value.clone() for key, value in weights.items() if key.startswith("bert.") and "position_ids" not in key}
    save_file(encoder, folder / "model.safetensors", metadata={"format": "pt"})
    _write(folder, "tokenizer_config.json", {"do_lower_case": True, "tokenizer_class": "BertTokenizer", "model_max_length": 512})
    _write(folder, "special_tokens_map.json", SPECIAL)
    return folder


SPECIAL = {"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]", "cls_token": "[CLS]", "mask_token": "[MASK]"}


def krissbert(folder: Path, safetensors: bool = False) -> Path:
    """microsoft/BiomedNLP-KRISSBERT-PubMed-UMLS-EL: uncased, its markers behind the vocabulary; .bin on main, safetensors at one revision."""
    from safetensors.torch import save_file

    first = len(wordpieces(True))
    weights = _bert(folder, lowercase=True, rows=first + 3, seed=3)
    encoder = {key.removeprefix("bert."): value for key, value in weights.items() if key.startswith("bert.")}
    if safetensors:
        save_file({key: value.clone() for key, value in encoder.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(encoder, folder / "pytorch_model.bin")
    _write(folder, "added_tokens.json", {"<ENT>": first, "</ENT>": first + 1, "[DUMMY]": first + 2})
    _write(folder, "tokenizer_config.json", {"do_lower_case": True, "do_basic_tokenize": True, "tokenizer_class": "BertTokenizer", **SPECIAL})
    _write(folder, "special_tokens_map.json", SPECIAL)
    return folder


def sentencepiece_model(target: Path) -> None:
    """A SentencePiece model as Llama-2's: BPE, bytes for what it does not know, no padding token."""
    import io

    import sentencepiece

    sink = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences(), model_writer=sink, model_type="bpe", vocab_size=PIECES, byte_fallback=True, character_coverage=0.9995,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True,
        allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2,
    )  # fmt: skip
    target.write_bytes(sink.getvalue())


def llama2(folder: Path, both: bool = True, fast: bool = True, taught: Sequence[tuple[str, str]] = ()) -> Path:
    """meta-llama/Llama-2-13b-chat-hf: shards, SentencePiece, no padding token.

    Args:
        folder: Where to write.
        both: Write the .bin shards, too, as the repository has them.
        fast: Write tokenizer.json beside tokenizer.model.
        taught: Texts and what the model is to write after each, learned by heart: random weights write nothing that could be located.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(4)
    shape = LlamaConfig(
        vocab_size=PIECES, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=4096, initializer_range=0.3, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False,
    )  # fmt: skip
    sentencepiece_model(folder / "tokenizer.model")
    model = LlamaForCausalLM(shape)
    if taught:
        _teach(model, folder / "tokenizer.model", taught)
    model = model.to(torch.float16)
    model.save_pretrained(folder, max_shard_size="200KB")
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _write(folder, "config.json", {key: value for key, value in described.items() if key not in ("dtype", "pad_token_id")} | {"torch_dtype": "float16"})
    _write(folder, "generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "do_sample": True, "temperature": 0.6, "top_p": 0.9, "max_length": 4096})  # fmt: skip
    if both:
        index = json.loads((folder / "model.safetensors.index.json").read_text(encoding="utf-8"))
        names = sorted(set(index["weight_map"].values()))
        renamed = {name: f"pytorch_model-{i:05}-of-{len(names):05}.bin" for i, name in enumerate(names, start=1)}
        for name, other in renamed.items():
            torch.save({key: value for key, value in model.state_dict().items() if index["weight_map"].get(key) == name}, folder / other)
        _write(folder, "pytorch_model.bin.index.json", index | {"weight_map": {key: renamed[name] for key, name in index["weight_map"].items()}})
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    _write(folder, "special_tokens_map.json", marks)
    settings = {"add_bos_token": True, "add_eos_token": False, "legacy": False, "model_max_length": 10**30, "tokenizer_class": "LlamaTokenizer", "clean_up_tokenization_spaces": False}  # fmt: skip
    _write(folder, "tokenizer_config.json", marks | settings | {"chat_template": CHAT})
    if fast:
        (folder / "tokenizer.json").write_text(_fast(folder), encoding="utf-8")
    return folder


def _teach(model: "LlamaForCausalLM", pieces: Path, texts: Sequence[tuple[str, str]], updates: int = 300) -> None:
    """Train until the model writes each text's continuation, and its end, by heart."""
    import sentencepiece

    coder = sentencepiece.SentencePieceProcessor(model_file=str(pieces))
    rows = [([1, *coder.encode(before)], [1, *coder.encode(f"{before} {after}"), 2]) for before, after in texts]
    longest = max(len(whole) for _, whole in rows)
    ids = torch.tensor([[*whole, *[0] * (longest - len(whole))] for _, whole in rows])  # [texts, longest]
    mask = torch.tensor([[1] * len(whole) + [0] * (longest - len(whole)) for _, whole in rows])
    labels = torch.tensor([[*[-100] * len(before), *whole[len(before) :], *[-100] * (longest - len(whole))] for before, whole in rows])
    torch.manual_seed(5)
    for parameter in model.parameters():  # so wide a start as other tests want learns slowly
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.08)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(updates):
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if loss < 0.03:
            break
    assert loss < 0.05, f"loss {loss:.2f}: the tiny model has not learned its texts"


def _fast(folder: Path) -> str:
    """tokenizer.json of a SentencePiece BPE model: pieces with their merges, bytes as fallback, a blank written as ▁ and put before the text."""
    import sentencepiece
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    pieces = {model.id_to_piece(i): i for i in range(model.get_piece_size())}
    # The merge of two pieces has the rank of what it makes.
    merges = sorted(
        ((pieces[left + right], left, right) for whole in pieces for cut in range(1, len(whole)) for left, right in [(whole[:cut], whole[cut:])]
         if left in pieces and right in pieces and not model.is_byte(pieces[whole]) and pieces[whole] > 2),
    )  # fmt: skip
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=[(a, b) for _, a, b in merges], unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in ("<unk>", "<s>", "</s>")])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)])
    return str(tokenizer.to_str(pretty=False))


REPOSITORIES: dict[str, Callable[[Path], Path]] = {
    "dmis-lab/biobert-base-cased-v1.1": biobert,
    "cambridgeltl/SapBERT-from-PubMedBERT-fulltext": sapbert,
    "microsoft/BiomedNLP-KRISSBERT-PubMed-UMLS-EL": krissbert,
    "meta-llama/Llama-2-13b-chat-hf": llama2,
}
"""Builders by the name of the repository that they resemble."""
