"""Sentences, windows, tags and decoding: the parts of recognition that need no weights, against independent computations."""

import itertools
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mentionforge import gold, text
from mentionforge.gold import TAGS, flatten, tags
from mentionforge.recognition import sentences
from mentionforge.recognition.windows import SentenceWindows, overlapping_ranges, owning_ranges

UNICODE = st.text(st.sampled_from("aB1é漢 \n\u0301\u200b-_.,°𝔸ß'\t "), max_size=60)


class SpellingTokenizer:
    """One piece per character that Latin-1 knows: pieces of every length, none at all for other words."""

    is_fast, cls_token_id, sep_token_id, unk_token_id, pad_token_id = True, 1, 2, 3, 0

    def __call__(self, words, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [[10 + ord(c) for c in word if ord(c) < 256] for word in words]}


def spans_of(tag_sequence):
    """Independent reading of IOB2: cut before every B and every O."""
    pieces = "".join(t[0] for t in tag_sequence)
    found = []
    for start in (i for i, t in enumerate(pieces) if t == "B"):
        run = len(list(itertools.takewhile(lambda t: t == "I", pieces[start + 1 :])))
        found.append((start, start + 1 + run))
    return found


# ------------------------------------------------------------------------------------------------------------ gold


def words_of(string):
    return text.words(string)


def test_a_mention_in_pieces_follows_the_policy():
    words = words_of("tumors of the breast and ovary")
    pieces = [[(0, 6), (14, 20)]]
    assert flatten(words, pieces, "longest").spans == ((0, 1),)
    assert flatten(words, [[(0, 6), (7, 20)]], "longest").spans == ((1, 4),)
    assert flatten(words, pieces, "hull").spans == ((0, 4),)
    dropped = flatten(words, pieces, "drop")
    assert dropped.spans == () and dropped.counts["dropped_discontinuous"] == 1 == dropped.counts["discontinuous"]


def test_the_longest_of_overlapping_mentions_is_kept_and_the_others_counted():
    words = words_of("hereditary breast cancer, breast cancer")
    flat = flatten(words, [[(11, 24)], [(0, 24)], [(26, 39)], [(26, 39)]], "longest")
    assert flat.spans == ((0, 3), (4, 6)) and flat.sources == (1, 2)
    assert flat.counts["dropped_overlap"] == 2 and flat.counts["kept"] == 2 and flat.counts["mentions"] == 4


def test_a_mention_inside_a_word_is_widened_and_counted():
    words = words_of("the ALDgene gene")
    flat = flatten(words, [[(4, 7)]], "longest")
    assert flat.spans == ((1, 2),) and flat.counts["widened"] == 1
    blank = flatten(words, [[(3, 4)]], "longest")
    assert blank.spans == () and blank.counts["dropped_empty"] == 1


def test_adjacent_mentions_stay_apart():
    # The IO fault: without B the two would read as one mention.
    flat = flatten(words_of("anemia asthma fever"), [[(0, 6)], [(7, 13)]], "longest")
    assert tags(3, flat.spans) == ["B-Disease", "B-Disease", "O"]


@given(UNICODE, st.data())
def test_flatten_counts_every_mention_once_and_covers_what_it_keeps(string, data):
    words = words_of(string)
    bound = st.integers(0, len(string))
    pairs = data.draw(st.lists(st.lists(st.tuples(bound, bound).map(sorted).filter(lambda s: s[0] < s[1]).map(tuple), min_size=1, max_size=3), max_size=6))
    for policy in ("longest", "hull", "drop"):
        flat = flatten(words, pairs, policy)
        left_out = sum(n for k, n in flat.counts.items() if k.startswith("dropped_"))
        assert len(pairs) == flat.counts["mentions"] == flat.counts["kept"] + left_out and len(flat.spans) == flat.counts["kept"]
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(flat.spans)) and all(a < b for a, b in flat.spans)
        for (first, last), source in zip(flat.spans, flat.sources, strict=True):
            start, end = gold.contiguous_span(pairs[source], policy)
            touched = [i for i, (a, b) in enumerate(words) if a < end and b > start]
            assert touched == list(range(first, last))
        assert spans_of(tags(len(words), flat.spans)) == list(flat.spans)


# ------------------------------------------------------------------------------------------------------- sentences


@given(UNICODE, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=5))
def test_every_word_is_in_exactly_one_sentence(string, spans):
    # Sentence spans that leave gaps or cut words must not lose anything.
    rows = [{"start": min(s), "end": max(s)} for s in spans if max(s) <= len(string)]
    doc = sentences.tokenized_document("d", string, rows)
    assert [i for s in doc.sentences for i in range(*s)] == list(range(len(text.words(string))))
    assert all(a < b for a, b in doc.sentences)


def test_training_joins_sentences_that_would_cut_a_mention_and_prediction_does_not():
    string = "Type 1. diabetes is common. It is chronic."
    doc = sentences.tokenized_document("d", string, [{"start": 0, "end": 7}, {"start": 8, "end": 27}, {"start": 28, "end": 42}])
    assert len(doc.sentences) == 3
    examples, counts = sentences.training_examples([doc], {"d": [[(0, 16)]]}, "longest")
    assert counts["joined"] == 1 and counts["sentences"] == 2 == len(examples)
    assert [w for e in examples for w in e.words] == [string[a:b] for a, b in doc.words]
    assert examples[0].tags == ["B-Disease", "I-Disease", "I-Disease", "I-Disease", "O", "O", "O"]
    assert len(doc.sentences) == 3


# --------------------------------------------------------------------------------------------------------- windows


@given(st.lists(st.integers(1, 12), max_size=60), st.integers(12, 30), st.integers(0, 11))
def test_windows_hold_every_word_within_their_size(lengths, size, stride):
    ranges = overlapping_ranges(lengths, size, stride)
    assert {i for r in ranges for i in range(*r)} == set(range(len(lengths)))
    assert all(sum(lengths[a:b]) <= size for a, b in ranges)
    for (_, end), (start, after) in itertools.pairwise(ranges):
        assert start <= end < after and sum(lengths[start:end]) <= stride
    owner = owning_ranges(ranges, len(lengths))
    for i, k in enumerate(owner):
        # Brute force: context that window k leaves on its cut sides, against every other window that holds the word.
        def context(j, i=i):
            first, last = ranges[j]
            sides = [i - first] * (first > 0) + [last - 1 - i] * (last < len(lengths))
            return min(sides, default=len(lengths))

        holders = [j for j, (a, b) in enumerate(ranges) if a <= i < b]
        assert k == max(holders, key=lambda j: (context(j), -j))


def test_windows_share_words_where_there_is_room():
    assert overlapping_ranges([1] * 10, 6, 3) == [(0, 6), (3, 9), (6, 10)]
    assert overlapping_ranges([1] * 6, 6, 3) == [(0, 6)]
    assert overlapping_ranges([], 6, 3) == []


@settings(deadline=None)
@given(st.lists(UNICODE, max_size=4), st.integers(4, 20), st.integers(0, 3), st.data())
def test_characters_to_word_pieces_and_back(strings, size, stride, data):
    """Tags put at first pieces, window by window, and read back from them give the same character spans."""
    docs = [sentences.tokenized_document(str(i), s, []) for i, s in enumerate(strings)]
    windows = SentenceWindows(SpellingTokenizer(), size, stride).cut([[d.text[a:b] for a, b in d.words] for d in docs])
    wanted, found = [], []
    read: Counter = Counter()
    classes = []
    for doc in docs:
        cuts = sorted(data.draw(st.sets(st.integers(0, len(doc.words)), max_size=6)))
        spans = [s for s in itertools.pairwise(cuts) if data.draw(st.booleans())]
        wanted += [(doc.doc_id, doc.words[a][0], doc.words[b - 1][1]) for a, b in spans]
        classes.append(tags(len(doc.words), spans))
    back = [[""] * len(doc.words) for doc in docs]
    for window in windows:
        assert len(window.pieces) <= size + 2
        for word, position in zip(window.words, window.positions, strict=True):
            first = docs[window.sentence].text[docs[window.sentence].words[word][0]]
            assert window.pieces[position] in (10 + ord(first), 3) or ord(first) >= 256
            back[window.sentence][word] = classes[window.sentence][word]
            read[window.sentence, word] += 1
    assert set(read.values()) <= {1} and len(read) == sum(len(d.words) for d in docs)
    for doc, sequence in zip(docs, back, strict=True):
        found += [(doc.doc_id, doc.words[a][0], doc.words[b - 1][1]) for a, b in spans_of(sequence)]
    assert found == wanted


def test_pieces_are_those_of_the_whole_sentence(minilm):
    """On plain text, splitting word by word gives what the tokenizer gives for the sentence, at the same characters."""
    from transformers import AutoTokenizer

    from mentionforge import models

    tokenizer = AutoTokenizer.from_pretrained(models.folder(minilm))
    string = "Adenomatous polyposis coli (APC) isn't Huntington's disease; café-au-lait spots_2 in 3.5% of families!"
    spans = text.words(string)
    windows = SentenceWindows(tokenizer, 128, 16).cut([[string[a:b] for a, b in spans]])
    whole = tokenizer(string, return_offsets_mapping=True)
    assert len(windows) == 1 and windows[0].pieces == whole["input_ids"]
    assert [whole["offset_mapping"][p][0] for p in windows[0].positions] == [a for a, _ in spans]


class _Remembered(dict):
    """Pieces of words, of which no pass over all of them may be made: it would cost each sentence as much as there are words."""

    def __iter__(self):
        raise AssertionError("a pass over all remembered words")

    keys = items = values = __iter__


def test_a_sentence_costs_what_its_words_cost_however_many_are_remembered():
    windows = SentenceWindows(SpellingTokenizer(), 20, 2)
    first = windows.cut([["ab", "cd"], [], ["ab"] * 15])
    windows._pieces = _Remembered(windows._pieces)
    assert windows.cut([["ab", "cd"], [], ["ab"] * 15]) == first
    assert [w.words for w in windows.cut([["ab", "new"]])] == [[0, 1]]


@given(st.lists(st.lists(st.integers(1, 6), max_size=12), max_size=5), st.integers(6, 20), st.integers(0, 5))
def test_a_sentence_that_fits_is_cut_as_any_other(lengths, size, stride):
    """One window holds all words, at the places that counting the pieces before them gives."""
    sentence_words = [["x" * n for n in words] for words in lengths]
    cut = SentenceWindows(SpellingTokenizer(), size, stride).cut(sentence_words)
    for number, words in enumerate(lengths):
        own = [w for w in cut if w.sentence == number]
        if words and sum(words) <= size:
            [window] = own
            assert window.words == list(range(len(words))) and len(window.pieces) == sum(words) + 2
            assert window.positions == [1 + sum(words[:i]) for i in range(len(words))]
        assert sum(len(w.words) for w in own) == len(words)


# -------------------------------------------------------------------------------------------------------- decoding


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(*[st.floats(0.01, 1)] * 3), max_size=6))
def test_decoding_finds_the_most_probable_valid_tags(rows):
    from mentionforge.recognition.tagger import decode_tags

    probabilities = np.array([np.array(r) / sum(r) for r in rows]).reshape(-1, 3)
    valid = [p for p in itertools.product(range(3), repeat=len(rows)) if all(not (b == 2 and a == 0) for a, b in itertools.pairwise((0, *p)))]
    chance = {p: float(np.prod([probabilities[i, t] for i, t in enumerate(p)])) for p in valid}
    found = decode_tags(probabilities)
    path = tuple(TAGS.index(t) for t in tags(len(rows), [f.span for f in found]))
    assert chance[path] == pytest.approx(max(chance.values()))
    for (a, b), score in found:
        assert score == pytest.approx(np.mean([probabilities[i, path[i]] for i in range(a, b)]))


def test_batches_hold_every_sentence_once_and_differ_between_epochs():
    import torch

    from mentionforge.recognition.training import batches

    lengths = [(i * 37) % 100 for i in range(1000)]
    order = torch.Generator().manual_seed(3)
    one, two = list(batches(lengths, 16, order)), list(batches(lengths, 16, order))
    assert sorted(i for b in one for i in b) == list(range(1000)) == sorted(i for b in two for i in b) and one != two
    assert list(batches(lengths, 16, torch.Generator().manual_seed(3))) == one
    padded = sum(max(lengths[i] for i in b) * len(b) for b in one)
    assert padded < 1.15 * sum(lengths)


def test_bfloat16_is_taken_only_where_asked_or_fast(monkeypatch):
    import torch

    from mentionforge.recognition.tagger import autocast_dtype

    cpu = torch.device("cpu")
    assert autocast_dtype("float32", cpu) is None and autocast_dtype("bfloat16", cpu) is torch.bfloat16
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert autocast_dtype("auto", cpu) is None
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert autocast_dtype("auto", cpu) is torch.bfloat16


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.25, 0.3, 0.5, 1.0])] * 3), min_size=1, max_size=8))
def test_tags_that_are_most_probable_and_valid_are_the_best_path(rows):
    """The short way is taken only where it gives what Viterbi gives, ties and zeros included."""
    from mentionforge.recognition.tagger import _best_path, _most_probable_tags

    probabilities = np.array(rows, dtype=np.float32)
    short = _most_probable_tags(probabilities)
    assert short is None or short == _best_path(probabilities)
    sure = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]] * 0.7 + 0.1
    assert _most_probable_tags(sure) == [0, 1, 2, 0]


# ------------------------------------------------------------------------------------------------------------ int8


@pytest.fixture(scope="module")
def layer():
    import torch

    torch.manual_seed(1)
    linear = torch.nn.Linear(96, 40)
    inputs = torch.randn(300, 96) * torch.rand(300, 1) * 9
    inputs[7] = 0
    inputs[8, :] = torch.where(torch.arange(96) % 2 == 0, 5.0, 4.9)  # the largest sums of neighbouring products
    return linear, inputs


def test_layers_in_int8_are_nearly_the_same(layer):
    """Against the same arithmetic in numpy to the last digits, and against the layer in float32 to two per cent."""
    import torch

    from mentionforge.recognition.int8 import Int8Linear

    linear, inputs = layer
    with torch.inference_mode():
        found, exact = Int8Linear(linear)(inputs).numpy(), linear(inputs).numpy()
    w, b, x = linear.weight.detach().numpy(), linear.bias.detach().numpy(), inputs.numpy()
    of_weight = (np.abs(w).max(1) / 63)[:, None]
    of_input = np.maximum(np.abs(x).max(1, keepdims=True), 1e-8) / 127
    expected = np.round(x / of_input) @ np.round(w / of_weight).T * of_input * of_weight.T + b
    # A value that lies on the border of two integers may be rounded either way.
    assert np.median(np.abs(found - expected)) < 1e-5 and np.abs(found - expected).max() < 0.05
    assert np.linalg.norm(found - exact) < 0.02 * np.linalg.norm(exact)
    assert found[7] == pytest.approx(b)


def test_rows_in_int8_do_not_depend_on_their_neighbours(layer):
    import torch

    from mentionforge.recognition.int8 import Int8Linear

    linear, inputs = layer
    integers = Int8Linear(linear)
    with torch.inference_mode():
        whole = integers(inputs)
        assert all(torch.equal(integers(inputs[i : i + n]), whole[i : i + n]) for i, n in ((0, 1), (7, 2), (100, 150)))
        assert torch.equal(integers(inputs.view(3, 100, 96)).view(300, 40), whole)


def test_every_linear_layer_of_a_model_is_replaced():
    import torch

    from mentionforge.recognition.int8 import Int8Linear, in_int8

    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Sequential(torch.nn.GELU(), torch.nn.Linear(8, 3, bias=False)))
    inputs = torch.randn(5, 8)
    with torch.inference_mode():
        expected = model(inputs)
        found = in_int8(model)(inputs)
    assert not any(type(m) is torch.nn.Linear for m in model.modules()) and sum(type(m) is Int8Linear for m in model.modules()) == 2
    assert torch.allclose(found, expected, atol=0.03)
