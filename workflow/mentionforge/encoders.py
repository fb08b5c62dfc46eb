"""Text to vectors with a Hugging Face encoder: load once, each distinct input once, sorted by length, unsorted back.

Two kinds of input: `strings` embeds a text as it is, `contexts` a mention inside a window of its document. Both give
`Window`s, word pieces and the positions to pool, so `encode` knows nothing of mentions: a vector is the mean of the last
hidden states at the pooled positions. Offsets are 0-based characters, end exclusive. The device is a GPU where there is one.

Pooling, by kind of input:

- strings, `cls`: the first token ([CLS]); strings, `mean`: all tokens, [CLS] and [SEP] included (sentence-transformers' way).
- contexts, `cls`: [CLS] of the window, with the mention between [M_s] and [M_e] (KrissBERT's way). A tokenizer that does not
  know the markers writes them as word pieces: without any marker, all mentions of a window would have the same vector.
- contexts, `mean`: the mention's own tokens as the context shapes them; markers stand around it only if the tokenizer knows
  them. This is the stand-in for general encoders, which have never seen a marker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mentionforge.errors import UserError
from mentionforge.models import folder
from mentionforge.progress import track

MARKERS = ("[M_s]", "[M_e]")
"""KrissBERT's marks before and after a mention."""

TOKENIZED_AT_A_TIME = 4096
"""Texts per call of the tokenizer: bounds the memory of its encodings, whatever the number of texts."""

Spans = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Window:
    """Input of one forward pass: token ids, special tokens included, and the positions whose hidden states are averaged."""

    ids: tuple[int, ...]
    pooled: tuple[int, ...]


@dataclass(frozen=True)
class Encoded:
    """Vectors of the distinct inputs, float32 [distinct, dimensions], and the row of each input given, int64 [inputs]."""

    vectors: np.ndarray
    rows: np.ndarray

    def dense(self) -> np.ndarray:
        """One vector per input given, float32 [inputs, dimensions]."""
        return self.vectors[self.rows]


class Encoder:
    """An encoder and its tokenizer.

    Args:
        stamp: Stamp of fetched weights (fetched.json).
        pooling: How token vectors become one vector; see the module.
        max_tokens: Longest input in word pieces, special tokens included.
        batch_size: Inputs per forward pass.
        dtype: Type of the computation; auto: bfloat16 where the device is fast with it. Pooling is always float32.
        unit: Scale vectors to length 1.

    Attributes:
        counts: What happened to the inputs so far: `truncated` strings, `empty` ones without any word piece; `at_edge`
            mentions nearer to an edge of their document than half a window, `cut` ones longer than the window.

    Raises:
        UserError: No weights, a tokenizer without offsets or without [CLS] and [SEP], or more tokens than the model has
            positions for.
    """

    def __init__(
        self,
        stamp: str | Path,
        pooling: Literal["cls", "mean"] = "mean",
        max_tokens: int = 64,
        batch_size: int = 128,
        dtype: Literal["auto", "bfloat16", "float32"] = "float32",
        unit: bool = True,
    ) -> None:
        import torch
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging

        logging.disable_progress_bar()
        path = folder(stamp)
        self.tokenizer: Any = AutoTokenizer.from_pretrained(path)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = AutoModel.from_pretrained(path, use_safetensors=True, dtype=torch.float32).to(self.device).eval()
        self.pooling, self.max_tokens, self.batch_size, self.unit = pooling, max_tokens, batch_size, unit
        self.bfloat16 = dtype == "bfloat16" or (dtype == "auto" and fast_bfloat16(self.device))
        frame = self.tokenizer("")["input_ids"]
        if not self.tokenizer.is_fast or len(frame) != 2:
            raise UserError(
                "unsuitable encoder", str(stamp), "its tokenizer has no offsets, or does not put a text between two special tokens", "use a BERT-like encoder"
            )
        self._first, self._last = frame
        limit = min(self.tokenizer.model_max_length, getattr(self.model.config, "max_position_embeddings", max_tokens))
        if max_tokens > limit:
            raise UserError("too many tokens", "config: max_tokens", f"{max_tokens} asked, {limit} possible with this model", f"give at most {limit}")
        pieces = self._ids(list(MARKERS))
        known = all(len(ids) == 1 and ids[0] != self.tokenizer.unk_token_id for ids, _ in pieces)
        marked = known or pooling == "cls"
        self._opening, self._closing = ([*pieces[0][0]], [*pieces[1][0]]) if marked else ([], [])
        self.markers = "special tokens" if known else "word pieces" if marked else "none"
        self.counts: Counter[str] = Counter()

    def _ids(self, texts: Sequence[str]) -> list[tuple[list[int], list[tuple[int, int]]]]:
        """Word pieces of each text and their character spans, without special tokens."""
        done = self.tokenizer(
            list(texts), add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, return_token_type_ids=False, verbose=False
        )
        return list(zip(done["input_ids"], done["offset_mapping"], strict=True))

    def strings(self, texts: Sequence[str]) -> list[Window]:
        """Inputs for texts as they are, cut after `max_tokens`; one per text, in order."""
        windows = []
        for start in range(0, len(texts), TOKENIZED_AT_A_TIME):
            for ids, _ in self._ids(texts[start : start + TOKENIZED_AT_A_TIME]):
                self.counts["truncated"] += len(ids) > self.max_tokens - 2
                self.counts["empty"] += not ids
                framed = (self._first, *ids[: self.max_tokens - 2], self._last)
                windows.append(Window(framed, (0,) if self.pooling == "cls" else tuple(range(len(framed)))))
        return windows

    def contexts(self, texts: Sequence[str], mentions: Sequence[tuple[int, Spans]]) -> list[Window]:
        """Inputs for mentions in the middle of a window of `max_tokens` of their document; one per mention, in order.

        At an edge of the document the other side gets the tokens that are left over. A mention longer than the window
        keeps its beginning. A word piece belongs to the mention if it shares a character with it.

        Args:
            texts: Documents.
            mentions: Document's position in `texts` and the mention's pieces (start, end), rising.
        """
        windows: list[Window | None] = [None] * len(mentions)
        by_text: dict[int, list[int]] = {}
        for number, (text, _) in enumerate(mentions):
            by_text.setdefault(text, []).append(number)
        order = sorted(by_text)
        for start in range(0, len(order), TOKENIZED_AT_A_TIME):
            chunk = order[start : start + TOKENIZED_AT_A_TIME]
            for text, (ids, offsets) in zip(chunk, self._ids([texts[t] for t in chunk]), strict=True):
                starts, ends = (np.array(offsets, dtype=np.int64).reshape(-1, 2).T) if ids else (np.empty(0, np.int64),) * 2
                for number in by_text[text]:
                    inside = np.zeros(len(ids), dtype=bool)
                    for begin, end in mentions[number][1]:
                        inside |= (starts < end) & (ends > begin)
                    windows[number] = self._around(ids, np.flatnonzero(inside))
        return [w for w in windows if w is not None]

    def _around(self, ids: list[int], mention: np.ndarray) -> Window:
        """The window around the tokens `mention` (positions in `ids`, rising)."""
        if not len(mention):
            self.counts["empty"] += 1
            return Window((self._first, *self._opening, *self._closing, self._last), (0,))
        room = self.max_tokens - 2 - len(self._opening) - len(self._closing)
        first, last = int(mention[0]), int(mention[-1]) + 1
        self.counts["cut"] += last - first > room
        last = min(last, first + room)
        spare = room - (last - first)
        left, right = min(first, spare // 2), min(len(ids) - last, spare - spare // 2)
        self.counts["at_edge"] += left + right < spare
        left, right = min(first, spare - right), min(len(ids) - last, spare - left)
        framed = (self._first, *ids[first - left : first], *self._opening, *ids[first:last], *self._closing, *ids[last : last + right], self._last)
        shift = 1 + left + len(self._opening) - first  # from a position in the document to one in the window
        return Window(framed, (0,) if self.pooling == "cls" else tuple(int(p) + shift for p in mention if p < last))

    def encode(self, windows: Sequence[Window], what: str | None = "embedding") -> Encoded:
        """Vectors of the inputs; equal inputs are computed once and share a row, in order of first appearance.

        Sorted by length, longest first, so that a batch is padded by next to nothing and a lack of memory shows at once.
        `what` is shown as it goes on; none: nothing is.
        """
        import torch

        numbers: dict[Window, int] = {}
        rows = np.fromiter((numbers.setdefault(w, len(numbers)) for w in windows), np.int64, len(windows))
        distinct = list(numbers)
        order = sorted(range(len(distinct)), key=lambda i: -len(distinct[i].ids))
        vectors = np.empty((len(distinct), self.model.config.hidden_size), np.float32)
        pad = self.tokenizer.pad_token_id
        shown = track(what, len(distinct)) if what else nullcontext(lambda units: None)
        with torch.inference_mode(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16), shown as tick:
            for start in range(0, len(order), self.batch_size):
                numbers_of_batch = order[start : start + self.batch_size]
                batch = [distinct[i] for i in numbers_of_batch]
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
                vectors[numbers_of_batch] = pooled.cpu().numpy()
                tick(len(batch))
        return Encoded(vectors, rows)


def fast_bfloat16(device: Any) -> bool:
    """Whether a torch device computes in bfloat16 faster than in float32."""
    import torch

    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())
