"""Tokenizers as their models were published: loaded in one place, since the files that come with a model often do not say all.

A repository may hold `vocab.txt` and no word on case; transformers then lower-cases, whatever the vocabulary holds. So the vocabulary decides
(`lowercase: auto`): a cased one has pieces with capitals, which lower-cased text can never reach; an uncased one has none, so that text with
capitals would be unknown pieces. A line says so wherever the files are silent or say the contrary.

Other things that transformers lets pass are errors here: no tokenizer files at all, added tokens at other ids than published, ids for which
the model has no vector.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from mentionforge.errors import UserError
from mentionforge.progress import say

Case = Literal["auto", "yes", "no", "saved"]
"""auto: by the vocabulary; yes, no: as the config says; saved: as the tokenizer's own files say, which this project wrote."""

FILES = ("tokenizer.json", "vocab.txt", "vocab.json", "tekken.json", "*.model", "*.spm")
"""Files of which a tokenizer needs one."""

CASED_SHARE = 0.01
"""Share of word pieces with capitals from which a vocabulary counts as cased; fewer were put into an uncased one by hand."""

MARKERS = (("<ENT>", "</ENT>"), ("[M_s]", "[M_e]"))
"""Pairs with which published encoders mark a mention: KrissBERT's, and those of other entity linkers."""

PADDING_OF_ROWS = 128
"""So many vectors without a token are common: embeddings are often padded to a round number."""

NUMBERED_FROM_PADDING = ("roberta", "xlm-roberta", "xlm-roberta-xl", "roberta-prelayernorm", "camembert", "mpnet", "longformer", "data2vec-text", "ibert")
"""Encoders whose positions begin behind the padding index, so that fewer are usable."""

_SETTINGS = {"do_lower_case": "lowercase", "strip_accents": "strip_accents", "tokenize_chinese_chars": "handle_chinese_chars"}
"""Keys of tokenizer_config.json and their names in tokenizer.json."""


def case_of(stamp: str | Path) -> Case:
    """How the tokenizer of fetched or trained weights treats case, by their stamp (fetched.json).

    Weights that this project trained or bundled have a tokenizer that it saved; others follow `models.NAME.lowercase`.
    """
    try:
        reference = json.loads(Path(stamp).read_text(encoding="utf-8")).get("reference") or {}
    except (OSError, ValueError, AttributeError):
        reference = {}
    found: Case = reference.get("lowercase") or ("saved" if {"aligned", "trained", "bundle"} & set(reference) else "auto")
    return found


def load(folder: str | Path, lowercase: Case = "auto", **options: Any) -> Any:
    """The tokenizer of a model folder.

    Args:
        folder: Folder with the tokenizer's files.
        lowercase: Whether text is lower-cased.
        options: Further arguments of `AutoTokenizer.from_pretrained`.

    Raises:
        UserError: No tokenizer files or unreadable ones, added tokens at other ids than published, or `lowercase` where the tokenizer has no
            WordPiece vocabulary.
    """
    from transformers import AutoTokenizer

    folder = Path(folder)
    if not any(path.is_file() for pattern in FILES for path in folder.glob(pattern)):
        raise UserError(
            "no tokenizer", str(folder), "the folder holds neither tokenizer.json nor a vocabulary", "add the tokenizer's files of the same release"
        )
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, **options)
    except Exception as error:  # the libraries raise many kinds, bare exceptions among them
        why = next((line for line in str(error).splitlines() if line.strip()), "")
        raise UserError("unreadable tokenizer", str(folder), f"{type(error).__name__}: {why}", "take the tokenizer's files of the same release") from error
    config = _json(folder / "tokenizer_config.json")
    _check_ids(tokenizer, folder, config)
    if lowercase != "saved":
        _set_case(tokenizer, folder, config, lowercase)
    return tokenizer


def check_rows(tokenizer: Any, model: Any, where: str | Path) -> None:
    """Check that the model has a vector for each of the tokenizer's ids; a much smaller vocabulary is said.

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
    """Tokens that a model reads at most, special tokens included, by its positions; none: it has no such limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    return positions - ((tokenizer.pad_token_id or 0) + 1 if config.model_type in NUMBERED_FROM_PADDING else 0)


def has_token(tokenizer: Any, token: str) -> bool:
    """Whether the vocabulary holds the token as a whole, added tokens included."""
    found = tokenizer.convert_tokens_to_ids(token)  # not back from it: an uncased tokenizer calls <ENT> <ent>
    return found is not None and (found != tokenizer.unk_token_id or token == tokenizer.unk_token)


# ----------------------------------------------------------------------------------------------------------------- its files


def _json(path: Path) -> dict[str, Any]:
    """A file of a tokenizer; empty where it is missing. transformers has read it before, so it is well formed."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _check_ids(tokenizer: Any, folder: Path, config: dict[str, Any]) -> None:
    """Added tokens must have the ids at which the model learned them; what transformers leaves out of the configuration is said."""
    published = {token: int(i) for token, i in _json(folder / "added_tokens.json").items()}
    published |= {str(t["content"] if isinstance(t, dict) else t): int(i) for i, t in (config.get("added_tokens_decoder") or {}).items()}
    for token, i in sorted(published.items(), key=lambda item: item[1]):
        found = tokenizer.convert_tokens_to_ids(token)
        if found != i:
            why = f"{token} has id {found}, published as {i}"
            raise UserError("tokens at other ids", str(folder), why, "the vocabulary is not the one of this model; take the tokenizer's files of one release")
    if _is_wordpiece(tokenizer):
        # transformers puts them behind the vocabulary, where the model has learned nothing.
        base = tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False).keys() | published.keys()
        lost = [mark for mark in (tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.pad_token) if mark is not None and mark not in base]
        if lost:
            raise UserError("incomplete vocabulary", str(folder), f"it lacks {', '.join(lost)}", "take the tokenizer's files of the model's own release")
    if config.get("do_basic_tokenize") is False or config.get("never_split"):
        say(f"tokenizer in {folder}: do_basic_tokenize and never_split are not read; text is split at blanks and punctuation")
    if (folder / "vocab.txt").is_file() and (folder / "tokenizer.json").is_file() and _is_wordpiece(tokenizer):
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").rstrip("\n").split("\n")
        vocabulary = tokenizer.get_vocab()
        other = sum(vocabulary.get(token) != i for token, i in {token: i for i, token in enumerate(lines)}.items())
        if other:
            say(f"tokenizer in {folder}: {other:,} of the {len(lines):,} entries of vocab.txt have other ids in tokenizer.json, which is read")


def _is_wordpiece(tokenizer: Any) -> bool:
    return bool(tokenizer.is_fast) and type(tokenizer.backend_tokenizer.model).__name__ == "WordPiece"


# --------------------------------------------------------------------------------------------------------------------- case


def _set_case(tokenizer: Any, folder: Path, config: dict[str, Any], lowercase: Case) -> None:
    """Make the tokenizer lower-case text or not, and say on what ground, unless its files say the same."""
    if not _is_wordpiece(tokenizer):
        if lowercase != "auto" and (lowercase == "yes") != _lowers(tokenizer):
            raise UserError("lowercase not to be set", str(folder), "the tokenizer has no WordPiece vocabulary", "leave out models.*.lowercase")
        return
    steps = _steps(tokenizer)
    if not any(step["type"] in ("BertNormalizer", "Lowercase") for step in steps):
        steps.append({"type": "BertNormalizer", "clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False})
    file = _json(folder / "tokenizer.json").get("normalizer") or {}
    if file.get("type") == "BertNormalizer":
        # transformers builds the normalizer from tokenizer_config.json alone; what that leaves out, tokenizer.json may say.
        for key, name in _SETTINGS.items():
            for step in steps:
                if step["type"] == "BertNormalizer" and key not in config:
                    step[name] = file[name]
    declared = config.get("do_lower_case", file.get("lowercase"))
    pieces = [piece for piece in tokenizer.backend_tokenizer.get_vocab(with_added_tokens=False) if not _is_special(piece)]
    capitals = sum(piece != piece.lower() for piece in pieces)
    cased = capitals > CASED_SHARE * len(pieces)
    wanted = not cased if lowercase == "auto" else lowercase == "yes"
    if lowercase == "auto" and wanted != declared:
        said = "no file says whether text is lower-cased" if declared is None else f"its files say do_lower_case: {str(bool(declared)).lower()}"
        ground = f"{capitals:,} of the {len(pieces):,} word pieces have capitals, so {'text is lower-cased' if wanted else 'case is kept'}"
        say(f"tokenizer in {folder}: {said}; {ground} (models.*.lowercase sets it)")
    elif lowercase != "auto" and wanted == cased:
        say(f"tokenizer in {folder}: lowercase: {lowercase}, although {capitals:,} of the {len(pieces):,} word pieces have capitals")
    if wanted:
        if not any(step["type"] == "Lowercase" for step in steps):
            next(step for step in steps if step["type"] == "BertNormalizer")["lowercase"] = True
    else:
        steps = [{**step, "lowercase": False} if step["type"] == "BertNormalizer" else step for step in steps if step["type"] != "Lowercase"]
    tokenizer.backend_tokenizer.normalizer = _normalizer(steps)
    # What is saved with a recognizer or an aligned encoder: the class reads its settings from here when it is loaded anew.
    first: dict[str, Any] = next((step for step in steps if step["type"] == "BertNormalizer"), {})
    kept = {key: first[name] for key, name in _SETTINGS.items() if name in first} | {"do_lower_case": wanted}
    tokenizer.init_kwargs.update(kept)
    for key, value in kept.items():
        if hasattr(tokenizer, key):
            setattr(tokenizer, key, value)


def _is_special(piece: str) -> bool:
    return (piece.startswith("[") and piece.endswith("]")) or (piece.startswith("<") and piece.endswith(">"))


def _steps(tokenizer: Any) -> list[dict[str, Any]]:
    """The normalizer's steps, as tokenizer.json writes them."""
    normalizer = tokenizer.backend_tokenizer.normalizer
    if normalizer is None:
        return []
    state = json.loads(normalizer.__getstate__())
    return list(state["normalizers"]) if state["type"] == "Sequence" else [state]


def _lowers(tokenizer: Any) -> bool:
    """Whether any step of the tokenizer lower-cases."""
    if not tokenizer.is_fast:
        return bool(getattr(tokenizer, "do_lower_case", False))
    return any(step["type"] == "Lowercase" or step.get("lowercase", False) for step in _steps(tokenizer))


def _normalizer(steps: list[dict[str, Any]]) -> Any:
    """A normalizer of these steps, in order."""
    from tokenizers import Tokenizer

    whole = steps[0] if len(steps) == 1 else {"type": "Sequence", "normalizers": steps}
    model = {"type": "WordLevel", "vocab": {}, "unk_token": ""}
    return Tokenizer.from_str(json.dumps({"version": "1.0", "normalizer": whole, "model": model})).normalizer
