"""Loading of tokenizers, as their models were trained.

In: a folder of weights, and whether text is lower-cased. Out: the tokenizer. Errors that transformers ignores are raised: no tokenizer files, added
tokens with other ids than published, ids without a vector in the model. Knows nothing of texts and mentions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from mentionforge.errors import UserError
from mentionforge.progress import say

# A repository may hold only `vocab.txt`, which does not tell whether text is lower-cased; transformers then lower-cases always. With `lowercase: auto`,
# the vocabulary decides. Example: a cased vocabulary has the piece "Huntington", which lower-cased text never matches; an uncased one has only
# "huntington", and "Huntington" would become an unknown piece. A message tells where the files say nothing, or the contrary.

Case = Literal["auto", "yes", "no", "saved"]
"""auto: by the vocabulary; yes, no: by the configuration; saved: by the tokenizer's files, which this project wrote."""

FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tekken.json", "*.model", "*.spm")
"""A tokenizer needs at least one of these files."""

CASED_SHARE = 0.01
"""Share of word pieces with capitals above which a vocabulary counts as cased; a few may have been added to an uncased one by hand."""

MARKERS = (("<ENT>", "</ENT>"), ("[M_s]", "[M_e]"))
"""Pairs of markers around a mention in published encoders: KrissBERT's, and those of other entity linkers."""

PADDING_OF_ROWS = 128
"""Up to this many vectors without a token are common, since embeddings are often padded to a round number."""

NUMBERED_FROM_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "longformer", "data2vec-text", "ibert")
"""Encoders whose positions begin after the padding index, so that fewer positions are usable."""

_SETTINGS = {"do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}
"""Keys of tokenizer_config.json and their names in tokenizer.json."""


def case_of(stamp: str | Path) -> Case:
    """The treatment of case for weights, by their stamp (fetched.json).

    Weights that this project trained or bundled have a saved tokenizer; others follow `models.NAME.lowercase`.
    """
    try:
        reference = json.loads(Path(stamp).read_text(encoding="utf-8")).get("reference") or {}
    except (OSError, ValueError, AttributeError):
        reference = {}
    case: Case = reference.get("lowercase") or ("saved" if {"aligned", "trained", "bundle"} & set(reference) else "auto")
    return case


def load(folder: str | Path, lowercase: Case = "auto", **options: Any) -> Any:
    """The tokenizer of a model folder.

    Args:
        folder: Folder with the tokenizer's files.
        lowercase: Whether text is lower-cased.
        options: Further arguments of `AutoTokenizer.from_pretrained`.

    Raises:
        UserError: Tokenizer files are missing or unreadable, added tokens have other ids than published, or `lowercase` is set for a tokenizer
            without a WordPiece vocabulary.
    """
    from transformers import AutoTokenizer

    folder = Path(folder)
    if not any(path.is_file() for pattern in FILES for path in folder.glob(pattern)):
        raise UserError(
            "no tokenizer", str(folder), "the folder holds neither tokenizer.json nor a vocabulary", "add the tokenizer's files of the same release"
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # the libraries raise many types, even bare exceptions
        why = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError("unreadable tokenizer", str(folder), f"{type(error).__name__}: {why}", "take the tokenizer's files of the same release") from error
    config = _json(folder / "tokenizer_config.json")
    _check_ids(tokenizer, folder, config)
    if lowercase != "saved":
        _set_case(tokenizer, folder, config, lowercase)
    return tokenizer


def check_rows(tokenizer: Any, model: Any, where: str | Path) -> None:
    """Check that the model has a vector for each id of the tokenizer; print a message if the vocabulary is much smaller.

    Raises:
        UserError: An id without a vector.
    """
    rows = int(model.get_input_embeddings().weight.shape[0])
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if highest >= rows:
        why = f"the tokenizer has ids up to {highest:,} ({token}), the model vectors for ids up to {rows - 1:,}"
        raise UserError("tokens without a vector", str(where), why, "take weights and tokenizer of the same release")
    if rows - highest > PADDING_OF_ROWS:
        say(
            f"{where}: the model has vectors for {rows:,} tokens, its tokenizer has {highest + 1:,}; are they of the same release, and is the vocabulary whole?"
        )


def longest_input(tokenizer: Any, config: Any) -> int | None:
    """Most tokens of an input, special tokens included, by the positions of the model; None: no such limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    return positions - ((tokenizer.pad_token_id or 0) + 1 if config.model_type in NUMBERED_FROM_PADDING else 0)


def has_token(tokenizer: Any, token: str) -> bool:
    """Whether the vocabulary, with added tokens, has this token."""
    token_id = tokenizer.convert_tokens_to_ids(token)  # no comparison of the id's token, since an uncased tokenizer calls <ENT> <ent>
    return token_id is not None and (token_id != tokenizer.unk_token_id or token == tokenizer.unk_token)


# ----------------------------------------------------------------------------------------------------------------- its files


def _json(path: Path) -> dict[str, Any]:
    """A JSON file of a tokenizer; empty if it is missing. transformers has read it before, so it is well-formed."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _check_ids(tokenizer: Any, folder: Path, config: dict[str, Any]) -> None:
    """Check that added tokens have the ids of the training; print a message for settings that transformers ignores."""
    published = {token: int(i) for token, i in _json(folder / "added_tokens.json").items()}
    published |= {str(t["content"] if isinstance(t, dict) else t): int(i) for i, t in (config.get("added_tokens_decoder") or {}).items()}
    for token, i in sorted(published.items(), key=lambda item: item[1]):
        id_here = tokenizer.convert_tokens_to_ids(token)
        if id_here != i:
            reason = f"{token} has id {id_here}, published as {i}"
            raise UserError(
                "tokens at other ids", str(folder), reason, "the vocabulary is not the one of this model; take the tokenizer's files of one release"
            )
    if _is_wordpiece(tokenizer):
        # transformers appends missing special tokens to the vocabulary, with ids that the model was not trained on.
        learned = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False).keys() | published.keys()
        unknown_specials = [
            mark for mark in (tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token) if mark is not None and mark not in learned
        ]
        if unknown_specials:
            raise UserError(
                "incomplete vocabulary", str(folder), f"it lacks {', '.join(unknown_specials)}", "take the tokenizer's files of the model's own release"
            )
    if config.get("do_basic_tokenize") is False or config.get("never_split"):
        say(f"tokenizer in {folder}: do_basic_tokenize and never_split are not read; text is split at blanks and punctuation")
    if (folder / "vocab.txt").is_file() and (folder / "tokenizer.json").is_file() and _is_wordpiece(tokenizer):
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        vocabulary = tokenizer.get_vocab()
        different = sum(vocabulary.get(token) != i for token, i in {token: i for i, token in enumerate(lines)}.items())
        if different:
            say(f"tokenizer in {folder}: {different:,} of the {len(lines):,} entries of vocab.txt have other ids in tokenizer.json, which is read")


def _is_wordpiece(tokenizer: Any) -> bool:
    return bool(tokenizer.is_fast) and type(tokenizer.backend_tokenizer.model).__name__ == "WordPiece"


# --------------------------------------------------------------------------------------------------------------------- case


def _set_case(tokenizer: Any, folder: Path, config: dict[str, Any], lowercase: Case) -> None:
    """Set whether the tokenizer lower-cases text; print the reason, unless its files say the same."""
    if not _is_wordpiece(tokenizer):
        if lowercase != "auto" and (lowercase == "yes") != _lowers(tokenizer):
            raise UserError("lowercase not to be set", str(folder), "the tokenizer has no WordPiece vocabulary", "leave out models.*.lowercase")
        return
    steps = _steps(tokenizer)
    if not any(step["type"] in ("BertNormalizer", "Lowercase") for step in steps):
        steps.append({"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False})
    file = _json(folder / "tokenizer.json").get("normalizer") or {}
    if file.get("type") == "BertNormalizer":
        # transformers builds the normalizer from tokenizer_config.json only; tokenizer.json may hold settings that are missing there.
        for key, name in _SETTINGS.items():
            for step in steps:
                if step["type"] == "BertNormalizer" and key not in config:
                    step[name] = file[name]
    declared = config.get("do_lower_case", file.get("lowercase"))
    pieces = [piece for piece in tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False) if not _is_special(piece)]
    capitals = sum(piece != piece.lower() for piece in pieces)
    cased = capitals > CASED_SHARE * len(pieces)
    lower = not cased if lowercase == "auto" else lowercase == "yes"
    if lowercase == "auto" and lower != declared:
        declaration = "no file says whether text is lower-cased" if declared is None else f"its files say do_lower_case: {str(bool(declared)).lower()}"
        ground = f"{capitals:,} of the {len(pieces):,} word pieces have capitals, so {'text is lower-cased' if lower else 'case is kept'}"
        say(f"tokenizer in {folder}: {declaration}; {ground} (models.*.lowercase sets it)")
    elif lowercase != "auto" and lower == cased:
        say(f"tokenizer in {folder}: lowercase: {lowercase}, although {capitals:,} of the {len(pieces):,} word pieces have capitals")
    if lower:
        if not any(step["type"] == "Lowercase" for step in steps):
            next(step for step in steps if step["type"] == "BertNormalizer")["lowercase"] = True
    else:
        steps = [{**step, "lowercase": False} if step["type"] == "BertNormalizer" else step for step in steps if step["type"] != "Lowercase"]
    tokenizer.backend_tokenizer.normalizer = _normalizer(steps)
    # These settings are saved with a trained recognizer or encoder, and read when the tokenizer is loaded again.
    bert_step: dict[str, Any] = next((step for step in steps if step["type"] == "BertNormalizer"), {})
    saved_settings = {key: bert_step[name] for key, name in _SETTINGS.items() if name in bert_step} | {"do_lower_case": lower}
    tokenizer.init_kwargs.update(saved_settings)
    for key, value in saved_settings.items():
        if hasattr(tokenizer, key):
            setattr(tokenizer, key, value)


def _is_special(piece: str) -> bool:
    return (piece.startswith("[") and piece.endswith("]")) or (piece.startswith("<") and piece.endswith(">"))


def _steps(tokenizer: Any) -> list[dict[str, Any]]:
    """Steps of the normalizer, as in tokenizer.json."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    if normalizer is None:
        return []
    state = json.loads(normalizer.__getstate__())
    return list(state["normalizers"]) if state["type"] == "Sequence" else [state]


def _lowers(tokenizer: Any) -> bool:
    """Whether the tokenizer lower-cases text."""
    if not tokenizer.is_fast:
        return bool(getattr(tokenizer, "do_lower_case", False))
    return any(step["type"] == "Lowercase" or step.get("lowercase", False) for step in _steps(tokenizer))


def _normalizer(steps: list[dict[str, Any]]) -> Any:
    """A normalizer of these steps, in order."""
    from tokenizers import Tokenizer

    whole = steps[0] if len(steps) == 1 else {"type": "Sequence", "normalizers": steps}
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    return Tokenizer.from_str(json.dumps({"version": "1.0", "normalizer": whole, "model": model})).normalizer
