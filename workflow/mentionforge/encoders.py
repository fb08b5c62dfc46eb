"""Text to vectors with a Hugging Face encoder.

In: texts, or mentions with the text of their document (offsets: 0-based characters, end exclusive). Out: one float32 vector per distinct input, and the
row of each input. Runs on a GPU if there is one. Knows nothing of concepts and indexes. The comment below explains inputs and pooling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mentionforge import tokenization
from mentionforge.errors import UserError
from mentionforge.models import folder
from mentionforge.progress import track
from mentionforge.text import plain, view

# `strings` builds an input from a whole text, `contexts` from a mention in a window of its document. Both give `EncoderInput`s: token ids, and the
# positions to pool. `encode` computes the mean of the last hidden states at these positions. The tokenizer reads the `text.view` of a text.
#
# Pooling of strings. `cls`: the first token, [CLS]. `mean`: all tokens, [CLS] and [SEP] included (as in sentence-transformers).
# Pooling of contexts. `cls`: the [CLS] of `[CLS] left <ENT> mention </ENT> right [SEP]` (as in KrissBERT). The markers are tokens that the encoder was
# trained with; without markers all mentions of a window would have the same vector, so that is an error. `mean`: the tokens of the mention, with
# markers around it only if the tokenizer has them. It is meant for general encoders, which were trained without markers.
#
# A window has `max_tokens` tokens. Example: with 16 tokens, 2 specials, 2 markers and a mention of 3, 9 tokens are left for the context: 4 for the left
# side, 5 for the right, and tokens that one side does not need go to the other. With markers, the text before, in and after the mention is tokenized as
# three texts, since a mention may begin within a word. A mention that is too long for the window loses its end, never its closing marker.

TOKENIZED_AT_A_TIME = 4096
"""Texts per call of the tokenizer; this limits the memory of its encodings."""

HEADS = frozenset({"classifier", "pre_classifier", "pooler", "score", "sequence_summary", "summary", "lm_head", "cls"})
"""Modules on top of an encoder, which are not used, or trained here."""

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class EncoderInput:
    """Input of one forward pass: token ids with special tokens, and the positions whose hidden states are averaged."""

    ids: tuple[int, ...]
    pooled: tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """Vectors of the distinct inputs, float32 [distinct, dimensions], and the row of each input, int64 [inputs]."""

    vectors: np.ndarray
    rows: np.ndarray

    def dense(self) -> np.ndarray:
        """One vector per input, float32 [inputs, dimensions]."""
        return self.vectors[self.rows]


class _Pieces:
    """Word pieces of a document: ids, character spans, and the number of the word that each belongs to."""

    def __init__(self, ids: list[int], offsets: Sequence[tuple[int, int]], words: Sequence[int | None]) -> None:
        self.ids, self.words = ids, words
        self.starts, self.ends = np.array(offsets, dtype=np.int64).reshape(-1, 2).T

    def within(self, spans: Spans) -> np.ndarray:
        """Whether each piece shares a character with one of the spans, bool [pieces]."""
        inside = np.zeros(len(self.ids), dtype=bool)
        for begin, end in spans:
            inside |= (self.starts < end) & (self.ends > begin)
        return inside

    def divided(self, piece: int, at: int) -> bool:
        """Whether position `at`, which lies before `piece` or within the piece before it, divides a word."""
        neighbours = [i for i in (piece - 1, piece) if 0 <= i < len(self.ids)]
        return any(self.starts[i] < at < self.ends[i] for i in neighbours) or (len(neighbours) == 2 and self.words[neighbours[0]] == self.words[neighbours[1]])

    def word_begin(self, piece: int) -> int:
        """The first piece of the word of `piece`."""
        while 0 < piece < len(self.ids) and self.words[piece - 1] == self.words[piece]:
            piece -= 1
        return min(piece, len(self.ids) - 1)

    def word_end(self, piece: int) -> int:
        """The end of the word that the piece before `piece` belongs to."""
        while 0 < piece < len(self.ids) and self.words[piece - 1] == self.words[piece]:
            piece += 1
        return piece


class Encoder:
    """An encoder and its tokenizer.

    Args:
        stamp: Stamp of fetched weights (fetched.json).
        pooling: How token vectors become one vector; see the comment at the top of the module.
        max_tokens: Longest input in word pieces, special tokens included.
        batch_size: Inputs per forward pass.
        dtype: Type of the computation; auto: bfloat16 if the device is fast with it. Pooling is always float32.
        unit: Scale vectors to length 1.
        markers: Tokens before and after a mention in context; none: the first published pair that the tokenizer has, if any.

    Attributes:
        markers: The tokens around mentions in context; none: no markers.
        counts: Numbers of inputs so far that were `truncated` (strings), `empty` (without any word piece), `at_edge` (mentions with less
            context on a side than half of the room for context) or `cut` (mentions longer than the window).

    Raises:
        UserError: No weights, a tokenizer without offsets, padding token or [CLS] and [SEP], token ids without a vector, more tokens than
            the model has positions for, or markers that the tokenizer does not know.
    """

    def __init__(
        self,
        stamp: str | Path,
        pooling: Literal["cls", "mean"] = "mean",
        max_tokens: int = 64,
        batch_size: int = 128,
        dtype: Literal["auto", "bfloat16", "float32"] = "float32",
        unit: bool = True,
        markers: tuple[str, str] | None = None,
    ) -> None:
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        logging.set_verbosity_error()  # it reports every missing head and pooler; `check_whole` checks the weights instead
        logging.disable_progress_bar()
        self._path = path = folder(stamp)
        self.tokenizer: Any = tokenization.load(path, tokenization.case_of(stamp))
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any
        self.model, report = AutoModel.from_pretrained(path, use_safetensors=True, dtype=torch.float32, output_loading_info=True)
        check_whole(report, path)
        self.model = self.model.to(self.device).eval()
        self.pooling, self.max_tokens, self.batch_size, self.unit = pooling, max_tokens, batch_size, unit
        self.bfloat16 = dtype == "bfloat16" or (dtype == "auto" and fast_bfloat16(self.device))
        frame = self.tokenizer("")["input_ids"]
        if not self.tokenizer.is_fast or len(frame) != 2 or self.tokenizer.pad_token_id is None:
            raise UserError(
                "unsuitable encoder",
                str(stamp),
                "its tokenizer has no offsets or no padding token, or does not put a text between two special tokens",
                "use a BERT-like encoder",
            )
        self._first, self._last = frame
        tokenization.check_rows(self.tokenizer, self.model, path)
        limit = min(self.tokenizer.model_max_length, tokenization.longest_input(self.tokenizer, self.model.config) or max_tokens)
        if max_tokens > limit:
            raise UserError("too many tokens", "config: max_tokens", f"{max_tokens} asked, {limit} possible with this model", f"give at most {limit}")
        self.markers = self._known_markers(markers, str(stamp))
        self._opening, self._closing = ([self.tokenizer.convert_tokens_to_ids(mark)] for mark in self.markers) if self.markers else ([], [])
        self.counts: Counter[str] = Counter()

    def _known_markers(self, markers: tuple[str, str] | None, stamp: str) -> tuple[str, str] | None:
        """The given markers, which the tokenizer must have; else the first published pair that it has, if any."""
        for mark in markers or ():
            if not tokenization.has_token(self.tokenizer, mark):
                raise UserError(
                    "unknown marker", "config: markers", f"{mark} is no token of the tokenizer of {stamp}", "give the pair that the model was trained with"
                )
        if markers:
            return markers
        return next((pair for pair in tokenization.MARKERS if all(tokenization.has_token(self.tokenizer, mark) for mark in pair)), None)

    def _tokenized(self, texts: Sequence[str]) -> Any:
        """The tokenizer's encodings of each text, without special tokens."""
        return self.tokenizer(
            list(texts), add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )

    def _ids(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Word pieces of each text and their character spans, without special tokens."""
        encodings = self._tokenized(texts)
        return list(zip(encodings["input_ids"], encodings["offset_mapping"], strict=True))

    def strings(self, texts: Sequence[str]) -> list[EncoderInput]:
        """Inputs for whole texts, cut after `max_tokens`; one per text, in order."""
        inputs = []
        for start in range(0, len(texts), TOKENIZED_AT_A_TIME):
            for ids, _ in self._ids([plain(text) for text in texts[start : start + TOKENIZED_AT_A_TIME]]):
                self.counts["truncated"] += len(ids) > self.max_tokens - 2
                self.counts["empty"] += not ids
                ids_with_specials = (self._first, *ids[: self.max_tokens - 2], self._last)
                inputs.append(EncoderInput(ids_with_specials, (0,) if self.pooling == "cls" else tuple(range(len(ids_with_specials)))))
        return inputs

    def contexts(self, texts: Sequence[str], mentions: Sequence[tuple[int, Spans]]) -> list[EncoderInput]:
        """Inputs for mentions in the middle of a window of `max_tokens` of their document; one per mention, in order.

        The comment at the top of the module says how a window is filled. Without markers, a word piece belongs to the mention if it shares a character
        with it. A discontinuous mention is marked from its first to its last character; `mean` pools only the tokens of its pieces.

        Args:
            texts: Documents.
            mentions: Position of the document in `texts`, and the pieces (start, end) of the mention, in order.

        Raises:
            UserError: Pooling is `cls`, and there are no markers.
        """
        if self.pooling == "cls" and not self.markers:
            published = ", ".join(f"{opening} {closing}" for opening, closing in tokenization.MARKERS)
            reason = f"pooling: cls reads a marked mention, and the tokenizer knows none of {published}"
            raise UserError("no markers", "config: markers", reason, "give the pair that the model was trained with, or set pooling: mean")
        inputs: list[EncoderInput | None] = [None] * len(mentions)
        by_text: dict[int, list[int]] = {}
        for index, (text, _) in enumerate(mentions):
            by_text.setdefault(text, []).append(index)
        order = sorted(by_text)
        for start in range(0, len(order), TOKENIZED_AT_A_TIME):
            chunk = order[start : start + TOKENIZED_AT_A_TIME]
            views = [view(texts[t]) for t in chunk]
            encodings = self._tokenized([shown.text for shown in views])
            for i, text in enumerate(chunk):
                pieces = _Pieces(encodings["input_ids"][i], encodings["offset_mapping"][i], encodings.word_ids(i) if self.markers else [])
                for index in by_text[text]:
                    spans = [views[i].to_view(*span) for span in mentions[index][1]]
                    inputs[index] = self._marked(views[i].text, pieces, spans) if self.markers else self._unmarked(pieces, spans)
        return [w for w in inputs if w is not None]

    def _unmarked(self, pieces: _Pieces, spans: Spans) -> EncoderInput:
        """The window of a mention without markers: the mention consists of the pieces that share a character with it."""
        mention = np.flatnonzero(pieces.within(spans))
        if not len(mention):
            self.counts["empty"] += 1
            return EncoderInput((self._first, self._last), (0,))
        first, last = int(mention[0]), int(mention[-1]) + 1
        return self._window(pieces.ids[:first], pieces.ids[first:last], pieces.ids[last:], [int(p) - first for p in mention])

    def _marked(self, text: str, pieces: _Pieces, spans: Spans) -> EncoderInput:
        """The window of a mention with markers: the text before, in and after it is tokenized separately."""
        start, end = spans[0][0], spans[-1][1]
        before, after = int(np.searchsorted(pieces.ends, start, "right")), int(np.searchsorted(pieces.starts, end, "left"))
        if pieces.divided(before, start) or pieces.divided(after, end):
            low, high = pieces.word_begin(before), pieces.word_end(after)
            texts = [text[min(start, int(pieces.starts[low])) : start], text[start:end], text[end : max(end, int(pieces.ends[high - 1]))]]
            (left, _), (inside, offsets), (right, _) = self._ids(texts)
            left, right = [*pieces.ids[:low], *left], [*right, *pieces.ids[high:]]
            is_pooled = [any(a + start < z and b + start > y for y, z in spans) for a, b in offsets]
        else:
            left, inside, right = pieces.ids[:before], pieces.ids[before:after], pieces.ids[after:]
            is_pooled = pieces.within(spans)[before:after].tolist()
        self.counts["empty"] += not inside
        return self._window(left, inside, right, [i for i, is_own in enumerate(is_pooled) if is_own])

    def _window(self, left: list[int], mention: list[int], right: list[int], pooled_in_mention: list[int]) -> EncoderInput:
        """The window of a mention with its left and right context; `pooled_in_mention` are the positions in `mention` that `mean` pools."""
        room = self.max_tokens - 2 - len(self._opening) - len(self._closing)
        self.counts["cut"] += len(mention) > room
        mention = mention[:room]
        spare = room - len(mention)
        before, after = min(len(left), spare // 2), min(len(right), spare - spare // 2)
        self.counts["at_edge"] += before + after < spare
        before, after = min(len(left), spare - after), min(len(right), spare - before)
        ids = (self._first, *left[len(left) - before :], *self._opening, *mention, *self._closing, *right[:after], self._last)
        shift = 1 + before + len(self._opening)
        pooled = () if self.pooling == "cls" else tuple(shift + i for i in pooled_in_mention if i < len(mention))
        return EncoderInput(ids, pooled or (0,))

    def encode(self, inputs: Sequence[EncoderInput], label: str | None = "embedding") -> Encoded:
        """Vectors of the inputs; equal inputs are computed once and share a row, in order of first appearance.

        Batches are sorted by length, longest first: little padding, and too little memory shows at once. `label` names the inputs in the progress
        display; none: no display.
        """
        import torch

        row_of: dict[EncoderInput, int] = {}
        rows = np.fromiter((row_of.setdefault(w, len(row_of)) for w in inputs), np.int64, len(inputs))
        distinct = list(row_of)
        order = sorted(range(len(distinct)), key=lambda i: -len(distinct[i].ids))
        vectors = np.empty((len(distinct), self.model.config.hidden_size), np.float32)
        pad = self.tokenizer.pad_token_id
        progress = track(label, len(distinct)) if label else nullcontext(lambda units: None)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16), progress as tick:
            for start in range(0, len(order), self.batch_size):
                rows_of_batch = order[start : start + self.batch_size]
                batch = [distinct[i] for i in rows_of_batch]
                longest = len(batch[0].ids)
                ids = torch.tensor([(*w.ids, *(pad,) * (longest - len(w.ids))) for w in batch])  # [batch, longest]
                attention = torch.tensor([[1] * len(w.ids) + [0] * (longest - len(w.ids)) for w in batch])
                weights = torch.zeros(len(batch), longest)
                for i, w in enumerate(batch):
                    weights[i, list(w.pooled)] = 1 / len(w.pooled)
                hidden = self.model(input_ids=ids.to(self.device), attention_mask=attention.to(self.device)).last_hidden_state
                with torch.autocast(self.device.type, enabled=False):
                    pooled = torch.einsum("bt,btd->bd", weights.to(self.device), hidden.float())
                    pooled = torch.nn.functional.normalize(pooled, dim=1) if self.unit else pooled
                vectors[rows_of_batch] = pooled.cpu().numpy()
                tick(len(batch))
        # One non-finite vector in an index would leave every query without a concept.
        if unusable := int(np.count_nonzero(~np.isfinite(vectors).all(1))):
            why = f"{unusable:,} of {len(distinct):,} inputs have a vector with a number that is not finite"
            raise UserError("encoder without result", str(self._path), why, "fetch the weights anew; if they were trained here, take a lower learning_rate")
        return Encoded(vectors, rows)


def check_whole(report: Mapping[str, Any], where: str | Path) -> None:
    """Check that the file held all weights of an encoder; transformers initializes missing weights at random.

    Args:
        report: Loading info of `from_pretrained`.
        where: The folder, for the message.

    Raises:
        UserError: Weights are missing, other than those of a head or pooler.
    """
    missing = sorted(key for key in report["missing_keys"] if HEADS.isdisjoint(key.split(".")))
    if missing:
        why = f"{len(missing):,} weights of the architecture are not in the file, {missing[0]} among them"
        raise UserError("incomplete weights", str(where), why, "take weights and config.json of the same release")


def fast_bfloat16(device: Any) -> bool:
    """Whether a torch device computes in bfloat16 faster than in float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())
