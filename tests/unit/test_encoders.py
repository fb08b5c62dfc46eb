"""Text to vectors, against an independent computation with plain transformers."""

import itertools
import unicodedata

import numpy as np
import pytest

from mentionforge.encoders import Encoder
from mentionforge.errors import UserError
from mentionforge.models import folder
from mentionforge.text import plain as seen

TERMS = ["gout", "Huntington's disease", "breast cancer", "Breast Cancer", "type 2 diabetes mellitus", "", "α-thalassemia", "hereditary " * 12, "gout"]
NOTE = (
    "The patient was seen for knee pain. There was no evidence of gout or of septic arthritis, and the family history of breast and ovarian cancer was noted. "
    * 4
)


@pytest.fixture(scope="module")
def encoder(minilm):
    return Encoder(minilm, max_tokens=32, batch_size=4)


@pytest.fixture(scope="module")
def plain(minilm):
    """Hidden states of one text at a time, without any padding: float32 [tokens, dimensions]."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    path = folder(minilm)
    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModel.from_pretrained(path).eval()

    def states(text: str, max_length: int) -> np.ndarray:
        with torch.no_grad():
            return model(**tokenizer(text, truncation=True, max_length=max_length, return_tensors="pt")).last_hidden_state[0].numpy()

    return states


@pytest.fixture(scope="module")
def marking(minilm, tmp_path_factory):
    """Stamp of a tiny encoder with random weights whose tokenizer knows [M_s] and [M_e]."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(3)
    target = tmp_path_factory.mktemp("marking")
    tokenizer = AutoTokenizer.from_pretrained(folder(minilm))
    tokenizer.add_tokens(["[M_s]", "[M_e]"], special_tokens=True)
    tokenizer.save_pretrained(target / "weights")
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, max_position_embeddings=64)
    BertModel(config).save_pretrained(target / "weights")
    (target / "fetched.json").write_text('{"folder": "weights"}')
    return target / "fetched.json"


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def at(text: str, surface: str, start: int = 0) -> tuple[int, int]:
    begin = text.index(surface, start)
    return begin, begin + len(surface)


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_strings_equal_plain_transformers(minilm, plain, pooling):
    encoder = Encoder(minilm, pooling=pooling, max_tokens=12, batch_size=3, unit=False)
    ours = encoder.encode(encoder.strings(TERMS)).dense()
    states = [plain(t, 12) for t in TERMS]
    theirs = np.stack([s[0] if pooling == "cls" else s.mean(0) for s in states])
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=2e-6)
    assert encoder.counts["truncated"] == 1 and encoder.counts["empty"] == 1


def test_unit_vectors(encoder, plain):
    ours = encoder.encode(encoder.strings(TERMS)).dense()
    np.testing.assert_allclose(ours, unit(np.stack([plain(t, 32).mean(0) for t in TERMS])), atol=1e-6)


def test_order_and_batch_size_do_not_matter(minilm, encoder):
    texts = [" ".join(words) for n in (1, 2, 5) for words in itertools.islice(itertools.permutations(NOTE.split()[:6], n), 9)]
    one = encoder.encode(encoder.strings(texts)).dense()
    shuffled = np.random.default_rng(0).permutation(len(texts))
    other = Encoder(minilm, max_tokens=32, batch_size=1)
    again = other.encode(other.strings([texts[i] for i in shuffled])).dense()
    np.testing.assert_allclose(again, one[shuffled], atol=1e-6)


def test_equal_inputs_are_computed_once(encoder):
    encoded = encoder.encode(encoder.strings(TERMS))
    assert encoded.rows.tolist() == [0, 1, 2, 2, 3, 4, 5, 6, 0]  # the tokenizer is uncased
    assert len(encoded.vectors) == 7
    assert encoder.encode([]).dense().shape == (0, 384)


def test_bfloat16_is_near(minilm, encoder):
    exact = encoder.encode(encoder.strings(TERMS)).dense()
    rough = Encoder(minilm, max_tokens=32, dtype="bfloat16")
    cosine = (rough.encode(rough.strings(TERMS)).dense() * exact).sum(1)
    assert cosine.min() > 0.999 and not np.array_equal(cosine, np.ones_like(cosine))


def test_mention_is_pooled_in_its_context(encoder, plain):
    """Short text, so that the window is all of it: the mean over exactly the mention's word pieces."""
    text = "No septic arthritis was found."
    window = encoder.contexts([text], [(0, [at(text, "septic arthritis")])])[0]
    pieces = encoder.tokenizer.convert_ids_to_tokens(window.ids)
    assert [pieces[p] for p in window.pooled] == encoder.tokenizer.tokenize("septic arthritis")
    first = 1 + len(encoder.tokenizer.tokenize("No"))
    expected = unit(plain(text, 32)[first : first + len(window.pooled)].mean(0))
    np.testing.assert_allclose(encoder.encode([window]).dense()[0], expected, atol=1e-6)


def test_every_mention_is_inside_its_window_and_centred(encoder):
    """Each word of a long note in turn: window full, mention whole, both sides within one token unless an edge is near."""
    words = [(i, i + len(w)) for w, i in ((m, NOTE.index(m, o)) for m, o in _words(NOTE))]
    windows = encoder.contexts([NOTE], [(0, [span]) for span in words])
    total = len(encoder.tokenizer.tokenize(NOTE))
    seen = 0
    for (start, end), window in zip(words, windows, strict=True):
        assert len(window.ids) == 32 and window.ids[0] == encoder.tokenizer.cls_token_id and window.ids[-1] == encoder.tokenizer.sep_token_id
        tokens = encoder.tokenizer.convert_ids_to_tokens([window.ids[p] for p in window.pooled])
        assert tokens == encoder.tokenizer.tokenize(NOTE[start:end])
        left, right = window.pooled[0] - 1, len(window.ids) - 2 - window.pooled[-1]
        before = len(encoder.tokenizer.tokenize(NOTE[:start]))
        after = total - before - len(tokens)
        if before >= 16 and after >= 16:
            assert abs(left - right) <= 1
            seen += 1
        elif before < 15:
            assert left == before
        elif after < 15:
            assert right == after
    assert seen > 50


def _words(text: str) -> list[tuple[str, int]]:
    offset, found = 0, []
    for word in text.split():
        begin = text.index(word, offset)
        found.append((word, begin))
        offset = begin + len(word)
    return found


def test_edges_and_long_mentions_are_counted(minilm):
    encoder = Encoder(minilm, max_tokens=16)
    middle = at(NOTE, "septic arthritis", len(NOTE) // 3)
    windows = encoder.contexts([NOTE, "gout", "\u200b"], [(0, [middle]), (0, [(0, 11)]), (0, [(0, 200)]), (1, [(0, 4)]), (2, [(0, 1)])])
    assert dict(encoder.counts) == {"at_edge": 2, "cut": 1, "empty": 1}
    assert [len(w.ids) for w in windows] == [16, 16, 16, 2 + len(encoder.tokenizer.tokenize("gout")), 2]
    assert windows[2].pooled == tuple(range(1, 15))
    assert encoder.encode(windows).dense().shape == (5, 384)


def test_pieces_of_a_discontinuous_mention(encoder):
    start = at(NOTE, "breast")[0]
    spans = [(start, start + 6), at(NOTE, "cancer", start)]
    window = encoder.contexts([NOTE], [(0, spans)])[0]
    assert encoder.tokenizer.convert_ids_to_tokens([window.ids[p] for p in window.pooled]) == ["breast", "cancer"]


def test_same_words_in_another_context_are_another_vector(encoder):
    texts = ["He has gout in the toe.", "A gout of flame came out."]
    encoded = encoder.encode(encoder.contexts(texts, [(i, [at(t, "gout")]) for i, t in enumerate(texts)]))
    assert len(encoded.vectors) == 2 and encoded.vectors[0] @ encoded.vectors[1] < 0.99


def test_markers_the_tokenizer_knows_stand_around_the_mention(marking):
    for pooling in ("cls", "mean"):
        encoder = Encoder(marking, pooling=pooling, max_tokens=20)
        assert encoder.markers == ("[M_s]", "[M_e]")
        window = encoder.contexts([NOTE], [(0, [at(NOTE, "septic arthritis")])])[0]
        tokens = encoder.tokenizer.convert_ids_to_tokens(window.ids)
        mention = tokens[tokens.index("[M_s]") + 1 : tokens.index("[M_e]")]
        assert mention == encoder.tokenizer.tokenize("septic arthritis") and len(tokens) == 20
        assert window.pooled == ((0,) if pooling == "cls" else tuple(range(tokens.index("[M_s]") + 1, tokens.index("[M_e]"))))


def test_cls_without_markers_is_an_error(minilm):
    """Two mentions of one window could not be told apart, and markers in word pieces are words that no encoder was trained with."""
    text = "Gout and arthritis."
    with pytest.raises(UserError, match=r"no markers.*knows none of <ENT> </ENT>.*set pooling: mean"):
        Encoder(minilm, pooling="cls", max_tokens=64).contexts([text], [(0, [(0, 4)])])
    plain = Encoder(minilm, pooling="mean", max_tokens=64)
    assert plain.markers is None and len(plain.contexts([text], [(0, [(0, 4)])])[0].ids) == 2 + len(plain.tokenizer.tokenize(text))
    with pytest.raises(UserError, match=r"unknown marker.*\[M_s\]"):
        Encoder(minilm, max_tokens=64, markers=("[M_s]", "[M_e]"))


def test_more_tokens_than_positions(minilm):
    with pytest.raises(UserError, match="too many tokens"):
        Encoder(minilm, max_tokens=513)


def test_an_encoder_reads_the_same_in_any_characters_that_write_it(encoder, marking):
    composed = "Known Sjögren syndrome, e\ufb00usion and Ménière\u00addisease."
    apart, shown = unicodedata.normalize("NFD", composed), seen(composed)
    assert encoder.strings([composed, apart]) == encoder.strings([shown, shown])
    for one in (encoder, Encoder(marking, max_tokens=32)):
        places = [
            [(0, (at(unicodedata.normalize(form, string), unicodedata.normalize(form, "Sjögren syndrome")),))]
            for string, form in ((composed, "NFC"), (apart, "NFD"))
        ]
        places = [*places, [(0, (at(shown, "Sjögren syndrome"),))]]
        a, b, c = (one.contexts([string], place) for string, place in zip((composed, apart, shown), places, strict=True))
        assert a == b == c


def test_a_vector_without_numbers_is_one_line(marking):
    """As of a training that diverged: in an index it would take the concepts of every mention."""
    import torch

    broken = Encoder(marking, pooling="mean", max_tokens=16, unit=False)
    word = broken.tokenizer("gout")["input_ids"][1]
    with torch.no_grad():
        broken.model.get_input_embeddings().weight[word] = float("nan")
    assert np.isfinite(broken.encode(broken.strings(["fever", "cough"])).vectors).all()
    with pytest.raises(UserError, match=r"encoder without result.*1 of 3 inputs") as found:
        broken.encode(broken.strings(["fever", "gout", "cough"]))
    assert "\n" not in str(found.value)
