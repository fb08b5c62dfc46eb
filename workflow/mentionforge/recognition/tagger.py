"""The tagger: an encoder with a tag classifier over words.

In: sentences of words. Out: tag probabilities of each word and predicted mentions. Knows nothing of gold mentions.
Saved as safetensors with the tokenizer and `recognizer.json` (tag of each class, window size, stride).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import AutoModelForTokenClassification
from transformers import logging as transformers_logging

from mentionforge import tokenization
from mentionforge.encoders import check_whole
from mentionforge.errors import UserError
from mentionforge.gold import TAGS
from mentionforge.progress import track
from mentionforge.recognition.sentences import TokenizedDocument
from mentionforge.recognition.windows import SentenceWindow, SentenceWindows
from mentionforge.text import Span

CARD_FILE = "recognizer.json"


class PredictedMention(NamedTuple):
    """A predicted mention: word span in its sentence, and the mean probability of its words' tags."""

    span: Span
    score: float


class Tagger:
    """A token-classification model and its windows, on a GPU if there is one."""

    def __init__(self, model: Any, tokenizer: Any, max_tokens: int, stride: int, dtype: str = "auto") -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model, self.tokenizer = model.to(self.device), tokenizer
        self.windows = SentenceWindows(tokenizer, max_tokens, stride)
        self.autocast = autocast_dtype(dtype, self.device)
        self._rows: torch.Tensor | None = None  # within `with_vocabulary`: the row of each word piece, [vocabulary]

    @classmethod
    def load(
        cls, folder: str | Path, max_tokens: int | None = None, stride: int | None = None, dtype: str = "auto", lowercase: tokenization.Case = "auto"
    ) -> Tagger:
        """A recognizer that `save` wrote or, with `max_tokens` and `stride`, an encoder with a new classifier.

        The weights of the new classifier come from torch's global random stream. `lowercase` applies to a new encoder only; a saved
        recognizer keeps the case handling that it was trained with. With `dtype` int8 it can only predict.

        Raises:
            UserError: The folder holds no recognizer, its tokenizer is slow or does not belong to the model, windows do not fit the model, or int8 on a GPU.
        """
        # Silence the report that the classifier is missing and the pooler unused: both are intended.
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        folder = Path(folder)
        if max_tokens is None or stride is None:
            try:
                card = json.loads((folder / CARD_FILE).read_text(encoding="utf-8"))
                max_tokens, stride, lowercase = int(card["max_tokens"]), int(card["stride"]), "saved"
            except (OSError, KeyError, ValueError) as error:
                raise UserError("no recognizer", str(folder), f"{CARD_FILE}: {error}", "give the model folder of a recognition run") from error
        # Byte-level vocabularies encode a word differently after a space. Words are tokenized one by one, so each is encoded as after a space.
        tokenizer = tokenization.load(folder, lowercase, add_prefix_space=True)
        if not tokenizer.is_fast or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None or tokenizer.unk_token_id is None:
            raise UserError(
                "unfit tokenizer",
                str(folder),
                "recognition needs a fast tokenizer with [CLS], [SEP] and an unknown token",
                "choose an encoder of the BERT family",
            )
        model, report = AutoModelForTokenClassification.from_pretrained(
            folder,
            num_labels=len(TAGS),
            id2label=dict(enumerate(TAGS)),
            label2id={t: i for i, t in enumerate(TAGS)},
            use_safetensors=True,
            local_files_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
        check_whole(report, folder)
        tokenization.check_rows(tokenizer, model, folder)
        longest = tokenization.longest_input(tokenizer, model.config)
        if longest is not None and max_tokens > longest - 2:
            raise UserError(
                "windows too long",
                "config: recognizers.*.max_tokens",
                f"the model reads at most {longest - 2} word pieces and two special tokens, not {max_tokens}",
                "lower it",
            )
        if dtype == "int8":
            if torch.cuda.is_available():
                raise UserError("no int8 on a GPU", "--int8", "its 8-bit integers are for processors", "leave it out, or set CUDA_VISIBLE_DEVICES to nothing")
            from mentionforge.recognition.int8 import in_int8

            model = in_int8(model)
        if stride >= max_tokens:
            raise UserError(
                "windows too short", "config: recognizers.*.stride", f"{stride} shared word pieces of {max_tokens}", "make stride smaller than max_tokens"
            )
        return cls(model, tokenizer, max_tokens, stride, dtype)

    def save(self, folder: Path, card: Mapping[str, Any]) -> None:
        """Write weights, tokenizer and `recognizer.json`; `folder` appears only when it is complete."""
        temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        self.model.save_pretrained(temporary)
        self.tokenizer.save_pretrained(temporary)
        data = {"tags": list(TAGS), "max_tokens": self.windows.max_tokens, "stride": self.windows.stride, **card}
        (temporary / CARD_FILE).write_text(json.dumps(data, sort_keys=True, indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(temporary, folder)

    @contextlib.contextmanager
    def with_vocabulary(self, words: Iterable[str]) -> Iterator[None]:
        """Context in which the model holds the embeddings of these words' pieces only; the others keep their values, and reading one fails.

        Half of a small encoder's weights, and more of a multilingual one's, are embeddings of word pieces. Most of them occur in no training
        sentence, yet they would get gradients of zero and a step of the optimizer. Leaving them out saves that time and memory.
        """
        full_embedding = self.model.get_input_embeddings()
        if type(full_embedding) is not torch.nn.Embedding:  # a subclass does more than look up a vector
            yield
            return
        padding = self.tokenizer.pad_token_id or 0
        # Keep all pieces up to the padding piece, so that its id does not change: some encoders derive positions from it.
        piece_ids = torch.tensor(sorted({*range(padding + 1), *self.windows.vocabulary(words)}))
        used_embedding = torch.nn.Embedding.from_pretrained(
            full_embedding.weight.data[piece_ids.to(self.device)], freeze=False, padding_idx=full_embedding.padding_idx
        )
        self._rows = torch.full((full_embedding.num_embeddings,), -1)
        self._rows[piece_ids] = torch.arange(len(piece_ids))
        self.model.set_input_embeddings(used_embedding)
        try:
            yield
        finally:
            full_embedding.weight.data[piece_ids.to(self.device)] = used_embedding.weight.data
            self.model.set_input_embeddings(full_embedding)
            self._rows = None

    def logits(self, windows: Sequence[SentenceWindow]) -> torch.Tensor:
        """Tag scores of a batch of windows, float32 [batch, longest window, 3]; values beyond the end of a window are meaningless."""
        lengths = torch.tensor([len(w.pieces) for w in windows])
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(w.pieces) for w in windows], batch_first=True, padding_value=self.tokenizer.pad_token_id or 0)
        mask = (torch.arange(ids.shape[1])[None, :] < lengths[:, None]).long()
        ids = ids if self._rows is None else self._rows[ids]
        with torch.autocast(self.device.type, self.autocast) if self.autocast else contextlib.nullcontext():
            return self.model(input_ids=ids.to(self.device), attention_mask=mask.to(self.device)).logits.float()

    def probabilities(self, sentences: Sequence[Sequence[str]], batch_size: int = 64, label: str | None = None) -> list[np.ndarray]:
        """Tag probabilities of each word, one [words, 3] array per sentence. `label` names the texts in the progress display; None: no display."""
        windows = self.windows.cut(sentences)
        by_sentence = [np.zeros((len(sentence), len(TAGS)), dtype=np.float32) for sentence in sentences]
        # Longest first: little padding, and a batch that does not fit into memory fails at once.
        order = sorted(range(len(windows)), key=lambda i: (-len(windows[i].pieces), i))
        self.model.eval()
        progress = track(f"{label}, stretches read", len(order)) if label else contextlib.nullcontext(lambda units: None)
        with torch.inference_mode(), progress as tick:
            for begin in range(0, len(order), batch_size):
                batch = [windows[i] for i in order[begin : begin + batch_size]]
                probabilities = torch.softmax(self.logits(batch), dim=-1).cpu().numpy()
                for row, window in zip(probabilities, batch, strict=True):
                    by_sentence[window.sentence][window.words] = row[window.positions]
                tick(len(batch))
        return by_sentence

    def read(self, documents: Sequence[TokenizedDocument], batch_size: int = 64, label: str | None = None) -> dict[str, np.ndarray]:
        """Tag probabilities of each document's words, [words, 3]; the model reads each sentence separately."""
        sentences_of = [(doc, sentence) for doc in documents for sentence in doc.sentences]
        by_document = {doc.doc_id: np.zeros((len(doc.words), len(TAGS)), dtype=np.float32) for doc in documents}
        for (doc, sentence), probabilities in zip(sentences_of, self.probabilities([doc.tokens(s) for doc, s in sentences_of], batch_size, label), strict=True):
            by_document[doc.doc_id][slice(*sentence)] = probabilities
        return by_document

    def recognize(self, documents: Sequence[TokenizedDocument], batch_size: int = 64) -> dict[str, list[PredictedMention]]:
        """Predicted mentions of each document, as word spans in the document, in order."""
        read = self.read(documents, batch_size)
        return {doc.doc_id: predicted_mentions(doc, read[doc.doc_id]) for doc in documents}


def predicted_mentions(doc: TokenizedDocument, probabilities: np.ndarray) -> list[PredictedMention]:
    """Predicted mentions of a document, as word spans in the document, in order; none crosses a sentence boundary.

    Args:
        doc: The document.
        probabilities: [words, 3], as `Tagger.read` gives them.
    """
    return [PredictedMention((first + a, first + b), score) for first, last in doc.sentences for (a, b), score in decode_tags(probabilities[first:last])]


def decode_tags(probabilities: np.ndarray) -> list[PredictedMention]:
    """Mentions of the most probable valid tag sequence of a sentence (Viterbi): no I follows an O or begins the sentence.

    Args:
        probabilities: [words, 3], in the order of `TAGS`.
    """
    if not len(probabilities):
        return []
    path = _most_probable_tags(probabilities) or _best_path(probabilities)
    starts = [i for i, tag in enumerate(path) if tag == 1]
    mentions = []
    for start in starts:
        end = start + 1
        while end < len(path) and path[end] == 2:
            end += 1
        mentions.append(PredictedMention((start, end), float(np.mean([probabilities[i, path[i]] for i in range(start, end)]))))
    return mentions


def _most_probable_tags(probabilities: np.ndarray) -> list[int] | None:
    """The most probable tag of each word, if it is the only one and the sequence is valid: then it is the best path; otherwise None."""
    path: list[int] = probabilities.argmax(axis=1).tolist()
    if any(tag == 2 and before == 0 for before, tag in pairwise([0, *path])):
        return None
    highest = probabilities.max(axis=1, keepdims=True)
    return path if np.count_nonzero(probabilities == highest) == len(path) else None


def _best_path(probabilities: np.ndarray) -> list[int]:
    """The tags of the most probable valid sequence (Viterbi)."""
    with np.errstate(divide="ignore"):
        emitted = np.log(probabilities.astype(np.float64))
    allowed = np.zeros((3, 3))  # [from, to]
    allowed[0, 2] = -np.inf
    best = emitted[0] + allowed[0]  # a sentence begins as if an O came before it
    back = np.zeros(probabilities.shape, dtype=np.int64)
    for i in range(1, len(emitted)):
        steps = best[:, None] + allowed
        back[i] = steps.argmax(axis=0)
        best = steps.max(axis=0) + emitted[i]
    path = [int(best.argmax())]
    for i in range(len(emitted) - 1, 0, -1):
        path.append(int(back[i][path[-1]]))
    return path[::-1]


def autocast_dtype(dtype: str, device: torch.device) -> torch.dtype | None:
    """Data type of mixed precision, or None for float32 (and int8) throughout.

    `auto` chooses bfloat16 where it is faster: on CUDA devices that support it, and on CPUs with avx512_bf16 or AMX.
    """
    if dtype in ("float32", "int8"):
        return None
    if dtype == "auto":
        fast = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
        return torch.bfloat16 if fast else None
    return torch.bfloat16
