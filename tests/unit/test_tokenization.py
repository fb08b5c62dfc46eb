"""Tokenizers in the files that their models are published with, against independent lines."""

import json
import random
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

import published
from mentionforge import tokenization
from mentionforge.encoders import Encoder
from mentionforge.errors import UserError
from mentionforge.model_settings import Model
from mentionforge.normalization.linkers import EncoderLinker
from mentionforge.recognition.tagger import Tagger

TERMS = ["Huntington's disease", "GOUT", "Crohn", "β-thalassemia", "São Paulo fever", "type 2 diabetes mellitus", "", "非 gout", "hereditary " * 30, "gout"]


def stamp(folder: Path, **reference: str) -> Path:
    """Weights as safetensors, as the fetch leaves them, and a stamp beside them."""
    from transformers import AutoModel

    if not (folder / "model.safetensors").is_file():
        AutoModel.from_pretrained(folder, use_safetensors=False).save_pretrained(folder)
    path = folder.parent / f"{folder.name}-{'-'.join(reference.values())}.json"
    path.write_text(json.dumps({"folder": str(folder), "reference": {"path": str(folder), **reference}}))
    return path


@pytest.fixture(scope="module")
def biobert(tmp_path_factory):
    return published.biobert(tmp_path_factory.mktemp("published") / "biobert")


@pytest.fixture(scope="module")
def sapbert(tmp_path_factory):
    return published.sapbert(tmp_path_factory.mktemp("published") / "sapbert")


@pytest.fixture(scope="module")
def krissbert(tmp_path_factory):
    return published.krissbert(tmp_path_factory.mktemp("published") / "krissbert")


def bare(folder: Path, vocabulary: list[str], **files: object) -> Path:
    """A folder with a BERT's configuration, vocab.txt and the given JSON files, without weights."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "vocab_size": len(vocabulary)}))
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in vocabulary), encoding="utf-8")
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data))
    return folder


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused1]"]
CASED = [*SPECIAL, "Hunt", "##ington", "hunt", "h", "##unt", "Café", "cafe", "##e", "disease"]
UNCASED = [word for word in CASED if word in SPECIAL or word == word.lower()]


def wordpieces(text: str, vocabulary: dict[str, int], lowercase: bool) -> list[int]:
    """BERT's own rules (Devlin et al. 2019), in plain Python: words and punctuation, then the longest pieces from the left."""
    if lowercase:
        text = "".join(c for c in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(c) != "Mn")
    spaced = "".join(
        f" {c} " if (c.isascii() and not c.isalnum() and not c.isspace()) or unicodedata.category(c).startswith("P") or "\u4e00" <= c <= "\u9fff" else c
        for c in text
    )
    ids = []
    for word in spaced.split():
        pieces, start = [], 0
        while start < len(word):
            end = next((e for e in range(len(word), start, -1) if ("##" if start else "") + word[start:e] in vocabulary), None)
            if end is None:
                pieces = [vocabulary["[UNK]"]]
                break
            pieces.append(vocabulary[("##" if start else "") + word[start:end]])
            start = end
        ids += pieces
    return ids


def vocabulary_of(folder: Path) -> dict[str, int]:
    return {word: i for i, word in enumerate((folder / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1])}


# --------------------------------------------------------------------------------------------------------------------- case


def test_biobert_is_cased_although_no_file_says_so(biobert, capsys):
    assert not (biobert / "tokenizer_config.json").exists()
    tokenizer = tokenization.load(biobert)
    said = capsys.readouterr().err
    assert "no file says" in said and "word pieces have capitals, so case is kept" in said
    vocabulary = vocabulary_of(biobert)
    for text in [*TERMS, *published.sentences()]:
        expected = [vocabulary["[CLS]"], *wordpieces(text, vocabulary, lowercase=False), vocabulary["[SEP]"]]
        assert tokenizer(text)["input_ids"] == expected, text


@pytest.mark.parametrize("name", ["sapbert", "krissbert"])
def test_uncased_models_are_lower_cased_without_a_word(name, request, capsys):
    folder = request.getfixturevalue(name)
    tokenizer, vocabulary = tokenization.load(folder), vocabulary_of(folder)
    assert "tokenizer in" not in capsys.readouterr().err
    for text in [*TERMS, *published.sentences()]:
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == wordpieces(text, vocabulary, lowercase=True), text


@pytest.mark.parametrize("vocabulary, files, lowercase, lower, said", [
    (CASED, {}, "auto", False, "no file says"),
    (CASED, {"tokenizer_config": {"do_lower_case": True}}, "auto", False, "do_lower_case: true"),
    (CASED, {"tokenizer_config": {"do_lower_case": False}}, "auto", False, ""),
    (CASED, {"tokenizer_config": {"do_lower_case": True}}, "yes", True, "lowercase: yes, although"),
    (CASED, {}, "yes", True, "lowercase: yes, although"),
    (CASED, {}, "no", False, ""),
    (CASED, {"tokenizer_config": {"do_lower_case": True}}, "saved", True, ""),
    (UNCASED, {}, "auto", True, "no file says"),
    (UNCASED, {"tokenizer_config": {"do_lower_case": True}}, "auto", True, ""),
    (UNCASED, {"tokenizer_config": {"do_lower_case": False}}, "auto", True, "do_lower_case: false"),
    (UNCASED, {"tokenizer_config": {"do_lower_case": False}}, "no", False, "lowercase: no, although"),
    ([*UNCASED, *(f"x{i}" for i in range(500)), "COVID"], {}, "auto", True, "1 of the 508"),
])  # fmt: skip
def test_the_vocabulary_decides_unless_the_config_does(tmp_path, capsys, vocabulary, files, lowercase, lower, said):
    tokenizer = tokenization.load(bare(tmp_path / "m", vocabulary, **files), lowercase)
    err = capsys.readouterr().err
    assert said in err if said else "tokenizer in" not in err
    numbers = {word: i for i, word in enumerate(vocabulary)}
    text = "Huntington hunt Café disease"
    assert tokenizer(text, add_special_tokens=False)["input_ids"] == wordpieces(text, numbers, lower)
    # Saved with a model that was trained on it, it reads the same, whatever the vocabulary would say.
    tokenizer.save_pretrained(tmp_path / "saved")
    shutil.copyfile(tmp_path / "m" / "config.json", tmp_path / "saved" / "config.json")
    assert tokenization.load(tmp_path / "saved", "saved")(text)["input_ids"] == tokenizer(text)["input_ids"]


def test_tokenizer_json_alone_keeps_its_case_and_accents(tmp_path):
    """transformers builds a BERT's tokenizer anew from tokenizer_config.json, and lower-cases where that is missing."""
    from transformers import BertTokenizer

    BertTokenizer({word: i for i, word in enumerate(CASED)}, do_lower_case=False, strip_accents=True).save_pretrained(tmp_path / "saved")
    for name in ("alone", "generic"):
        folder = bare(tmp_path / name, CASED, **({"tokenizer_config": {"tokenizer_class": "PreTrainedTokenizerFast"}} if name == "generic" else {}))
        (folder / "vocab.txt").unlink()
        shutil.copyfile(tmp_path / "saved" / "tokenizer.json", folder / "tokenizer.json")
        tokenizer = tokenization.load(folder)
        assert tokenizer.tokenize("Huntington café") == ["Hunt", "##ington", "cafe"], name


def test_windows_line_ends_and_another_tokenizer_json(tmp_path, capsys):
    folder = bare(tmp_path / "m", CASED)
    tokenization.load(folder).save_pretrained(tmp_path / "saved")
    (folder / "vocab.txt").write_bytes("".join(f"{word}\r\n" for word in CASED).encode())
    assert tokenization.load(folder).tokenize("Huntington disease") == ["Hunt", "##ington", "disease"]
    shutil.copyfile(tmp_path / "saved" / "tokenizer.json", folder / "tokenizer.json")
    (folder / "vocab.txt").write_text("\n".join([*CASED[:-2], "disease", "##e"]) + "\n")
    capsys.readouterr()
    tokenization.load(folder)
    assert "2 of the 15 entries of vocab.txt have other ids in tokenizer.json" in capsys.readouterr().err


def test_lowercase_is_a_setting_of_the_model_and_reaches_the_jobs(biobert):
    assert Model(hub="a/b").lowercase == "auto"
    assert Model(hub="a/b", lowercase="yes").model_dump(exclude_none=True)["lowercase"] == "yes"  # what the fetch writes into its stamp
    kept, lowered = (Encoder(stamp(biobert, lowercase=case), "cls", 25) for case in ("auto", "yes"))
    ids = [encoder.strings(["Huntington"])[0].ids for encoder in (kept, lowered)]
    vocabulary = vocabulary_of(biobert)
    assert [list(i[1:-1]) for i in ids] == [wordpieces(word, vocabulary, False) for word in ("Huntington", "huntington")]


def test_a_saved_recognizer_reads_as_it_was_trained(biobert, tmp_path):
    path = stamp(biobert, lowercase="yes")
    trained = Tagger.load(biobert, 20, 5, "float32", tokenization.case_of(path))
    trained.save(tmp_path / "saved", {})
    again = Tagger.load(tmp_path / "saved", dtype="float32")
    words = ["Crohn", "HAS", "Huntington"]
    assert again.windows.split(words) == trained.windows.split(words) == trained.windows.split([word.lower() for word in words])
    np.testing.assert_array_equal(again.probabilities([words])[0], trained.probabilities([words])[0])


def test_stamps_say_whose_tokenizer_it_is(tmp_path):
    cases = {"auto": {"hub": "a/b"}, "no": {"hub": "a/b", "lowercase": "no"}, "saved": {"aligned": "0"}, "yes": {"bundle": 1, "lowercase": "yes"}}
    for case, reference in cases.items():
        (tmp_path / "fetched.json").write_text(json.dumps({"folder": ".", "reference": reference}))
        assert tokenization.case_of(tmp_path / "fetched.json") == case
    for reference in ({"trained": {}}, {"bundle": 0}):
        (tmp_path / "fetched.json").write_text(json.dumps({"folder": ".", "reference": reference}))
        assert tokenization.case_of(tmp_path / "fetched.json") == "saved"
    (tmp_path / "fetched.json").write_text(json.dumps({"folder": "."}))
    assert tokenization.case_of(tmp_path / "fetched.json") == "auto"


# ------------------------------------------------------------------------------------------------------------ files that do not fit


@pytest.mark.parametrize("change, message", [
    (lambda f: (f / "vocab.txt").unlink(), "no tokenizer"),
    (lambda f: (f / "vocab.txt").write_text(""), r"incomplete vocabulary.*\[UNK\], \[CLS\], \[SEP\], \[PAD\]"),
    (lambda f: (f / "vocab.txt").write_text("\ufeff" + "\n".join(CASED)), r"incomplete vocabulary.*\[PAD\]"),
    (lambda f: (f / "vocab.txt").write_text("\n".join(w for w in CASED if w != "[CLS]")), r"incomplete vocabulary.*\[CLS\]"),
    (lambda f: (f / "vocab.txt").write_bytes("é\n".encode("latin-1")), "unreadable tokenizer.*UTF-8"),
    (lambda f: (f / "tokenizer.json").write_text("{"), "unreadable tokenizer"),
    (lambda f: (f / "tokenizer_config.json").write_text("{"), "unreadable tokenizer"),
    (lambda f: (f / "added_tokens.json").write_text('{"<ENT>": 99}'), "tokens at other ids.*<ENT> has id 15, published as 99"),
])  # fmt: skip
def test_what_transformers_lets_pass_is_one_line(tmp_path, change, message):
    folder = bare(tmp_path / "m", CASED)
    change(folder)
    with pytest.raises(UserError, match=message) as caught:
        tokenization.load(folder)
    assert "\n" not in str(caught.value)


def test_settings_that_are_not_read_are_said(tmp_path, capsys):
    tokenization.load(bare(tmp_path / "m", CASED, tokenizer_config={"do_lower_case": False, "do_basic_tokenize": False, "never_split": ["Huntington"]}))
    assert "never_split are not read" in capsys.readouterr().err


def test_fewer_vectors_than_ids_is_one_line(krissbert, tmp_path):
    from transformers import BertModel

    folder = shutil.copytree(krissbert, tmp_path / "m")
    BertModel(published.bert_config(len(published.wordpieces(True)))).save_pretrained(folder)  # as if its markers had never been added
    (folder / "pytorch_model.bin").unlink()
    for load in (lambda: Encoder(stamp(folder)), lambda: Tagger.load(folder, 20, 5)):
        with pytest.raises(UserError, match=r"tokens without a vector.*\[DUMMY\].*same release"):
            load()


def test_many_more_vectors_than_tokens_is_said(biobert, tmp_path, capsys):
    folder = shutil.copytree(biobert, tmp_path / "m")
    words = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
    (folder / "vocab.txt").write_text("\n".join(words[:700]), encoding="utf-8")  # a download that was cut off
    Encoder(stamp(folder))
    assert "is the vocabulary whole?" in capsys.readouterr().err


def test_weights_that_are_not_all_there_are_one_line(sapbert, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(sapbert, tmp_path / "m")
    weights = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in weights.items() if "pooler" not in k}, folder / "model.safetensors", metadata={"format": "pt"})
    Encoder(stamp(folder))  # a pooler is not read
    save_file({k: v for k, v in weights.items() if "layer.1." not in k}, folder / "model.safetensors", metadata={"format": "pt"})
    for load in (lambda: Encoder(stamp(folder)), lambda: Tagger.load(folder, 20, 5)):
        with pytest.raises(UserError, match=r"incomplete weights.*16 weights.*encoder\.layer\.1"):
            load()


# ------------------------------------------------------------------------------------------------------------- the paper's encoders


def plain(folder: Path):
    """The [CLS] vector of token ids, one input at a time."""
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(folder).eval()
    return lambda ids: model(input_ids=torch.tensor([list(ids)])).last_hidden_state[0, 0].detach().numpy()


def test_sapbert_as_its_authors_use_it(sapbert):
    """[CLS] of the bare mention, at most 25 tokens, not scaled: the linker of config/paper.yaml."""
    encoder = EncoderLinker(kind="mention", model="sapbert", pooling="cls", metric="l2").encoder(stamp(sapbert))
    windows, vocabulary, cls = encoder.strings(TERMS), vocabulary_of(sapbert), plain(sapbert)
    vectors = encoder.encode(windows).dense()
    for text, window, vector in zip(TERMS, windows, vectors, strict=True):
        ids = [vocabulary["[CLS]"], *wordpieces(text, vocabulary, lowercase=True)[:23], vocabulary["[SEP]"]]
        assert list(window.ids) == ids and len(ids) <= 25
        np.testing.assert_allclose(vector, cls(ids), atol=1e-5)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).min() > 0.1


def krissbert_ids(folder: Path, size: int):
    """Lines of their own for `[CLS] left <ENT> mention </ENT> right [SEP]`, by the tokenizer's public calls."""
    from transformers import BertTokenizer

    tokenizer = BertTokenizer.from_pretrained(folder)
    opening, closing = tokenizer.convert_tokens_to_ids(["<ENT>", "</ENT>"])
    assert [opening, closing] == [len(published.wordpieces(True)), len(published.wordpieces(True)) + 1]

    def build(text: str, start: int, end: int) -> list[int]:
        left, mention, right = (tokenizer.encode(part, add_special_tokens=False) for part in (text[:start], text[start:end], text[end:]))
        mention = mention[: size - 4]
        spare = size - 4 - len(mention)
        smaller, larger = spare // 2, spare - spare // 2
        if len(left) < smaller:
            larger = spare - len(left)
        elif len(right) < larger:
            smaller = spare - len(right)
        left, right = left[max(0, len(left) - smaller) :], right[:larger]
        return [tokenizer.cls_token_id, *left, opening, *mention, closing, *right, tokenizer.sep_token_id]

    return build


ODD = (
    "Früh-onset β-thalassaemia\tmajor\nand non-Hodgkin's lymphoma (NHL), hyperglycaemia≥7 mmol/l; 糖尿病 type-2 <b>DM</b> 😀 pre\u200bdiabetes e\u0301pilepsie "
    "[**Name**] 50% of x<y. a<ENT>b [SEP] [CLS]x </ent> "
) + "The patient was seen for GOUT, Crohn's disease and (again) septic-arthritis; no evidence of type 2 diabetes. " * 6


@pytest.mark.parametrize("size", [64, 63, 17])
def test_krissbert_window_as_its_authors_build_it(krissbert, size):
    """Random mentions, words' insides and edges among them, in the demo's notes and in a text of odd characters."""
    encoder = EncoderLinker(kind="context", model="krissbert", metric="ip", max_tokens=size).encoder(stamp(krissbert))
    assert encoder.markers == ("<ENT>", "</ENT>")
    chance = random.Random(size)
    texts = [ODD, *(path.read_text(encoding="utf-8") for path in sorted((published.DEMO / "semeval").rglob("*.text"))[:3]), "Gout", "GOUT and arthritis."]
    mentions = [(i, [(0, min(4, len(t)))]) for i, t in enumerate(texts)] + [(i, [(len(t) - 4, len(t))]) for i, t in enumerate(texts)]
    for number, text in enumerate(texts):
        starts = [chance.randrange(len(text)) for _ in range(150)]
        mentions += [(number, [(start, min(len(text), start + chance.choice([1, 3, 9, 25, 400])))]) for start in starts]
        words = [word.span() for word in re.finditer(r"\w+", text)]
        mentions += [(number, [chance.choice(words)]) for _ in range(50)]
    build = krissbert_ids(krissbert, size)
    for (number, [(start, end)]), window in zip(mentions, encoder.contexts(texts, mentions), strict=True):
        assert list(window.ids) == build(texts[number], start, end), (texts[number][start:end], start, end)
        assert len(window.ids) <= size and window.pooled == (0,)
    assert encoder.counts["cut"] and encoder.counts["at_edge"]


def test_krissbert_vector_is_the_hidden_state_of_cls(krissbert):
    """The inner product takes it as it is; the linker is that of config/paper.yaml."""
    encoder = EncoderLinker(kind="context", model="krissbert", pooling="cls", metric="ip", max_tokens=64).encoder(stamp(krissbert))
    spans = [(ODD.index(word), ODD.index(word) + len(word)) for word in ("thalassaemia", "non-Hodgkin's lymphoma", "glyc", "糖尿病", "GOUT", "Früh")]
    spans += [(0, len(ODD)), (len(ODD) - 9, len(ODD)), (700, 712)]
    vectors = encoder.encode(encoder.contexts([ODD], [(0, [span]) for span in spans])).dense()
    cls, build = plain(krissbert), krissbert_ids(krissbert, 64)
    for span, vector in zip(spans, vectors, strict=True):
        np.testing.assert_allclose(vector, cls(build(ODD, *span)), atol=1e-5)
    assert np.abs(np.linalg.norm(vectors, axis=1) - 1).min() > 0.1


def test_krissbert_markers_are_configured_or_known_or_an_error(krissbert, sapbert):
    def linker(**more: object) -> EncoderLinker:
        return EncoderLinker(kind="context", model="m", **more)

    given = linker(markers=("[DUMMY]", "</ENT>")).encoder(stamp(krissbert))
    window = given.contexts(["no gout"], [(0, [(3, 7)])])[0]
    vocabulary, first = vocabulary_of(krissbert), len(published.wordpieces(True))
    no, gout = (wordpieces(word, vocabulary, lowercase=True) for word in ("no", "gout"))
    assert list(window.ids) == [vocabulary["[CLS]"], *no, first + 2, *gout, first + 1, vocabulary["[SEP]"]]
    with pytest.raises(UserError, match=r"unknown marker in config: markers: \[M_s\] is no token"):
        linker(markers=("[M_s]", "[M_e]")).encoder(stamp(krissbert))
    with pytest.raises(UserError, match=r"no markers.*knows none of <ENT> </ENT>, \[M_s\] \[M_e\].*pooling: mean"):
        linker().encoder(stamp(sapbert)).contexts(["no gout"], [(0, [(3, 7)])])
    assert linker(pooling="mean").encoder(stamp(sapbert)).markers is None
    with pytest.raises(ValueError, match="reads the mention alone"):
        EncoderLinker(kind="mention", model="m", markers=("<ENT>", "</ENT>"))


def test_pieces_of_a_marked_mention(krissbert):
    """Discontinuous: marked from its beginning to its end; `mean` pools its own words alone."""
    text = "No breast and ovarian cancer was seen."
    spans = [(3, 9), (22, 28)]
    for pooling in ("cls", "mean"):
        encoder = Encoder(stamp(krissbert), pooling, 64)
        window = encoder.contexts([text], [(0, spans)])[0]
        assert list(window.ids) == krissbert_ids(krissbert, 64)(text, 3, 28)
    tokens, own = encoder.tokenizer.convert_ids_to_tokens(window.ids), [encoder.tokenizer.tokenize(text[a:b]) for a, b in spans]
    assert [tokens[p] for p in window.pooled] == own[0] + own[1]


def test_biobert_windows_are_those_of_the_words(biobert):
    """Each word's pieces on their own, cased, its tag at the first of them; hidden states as an independent pass gives them."""
    import torch
    from transformers import BertModel

    stamp(biobert)
    tagger = Tagger.load(biobert, 510, 64, "float32")
    vocabulary = vocabulary_of(biobert)
    sentence = ["Crohn", "'s", "disease", "NEVER", "α-thalassemia", "Huntington", ",", "non-Hodgkin", "GOUT", "gout", "\u200b", "糖尿病"]
    pieces = [wordpieces(word.replace("\u200b", ""), vocabulary, lowercase=False) or [vocabulary["[UNK]"]] for word in sentence]
    (window,) = tagger.windows.cut([sentence])
    assert window.pieces == [vocabulary["[CLS]"], *(i for word in pieces for i in word), vocabulary["[SEP]"]]
    assert window.positions == [1 + sum(map(len, pieces[:i])) for i in range(len(sentence))]
    tagger.model.eval()
    with torch.no_grad():
        hidden = BertModel.from_pretrained(biobert).eval()(input_ids=torch.tensor([window.pieces])).last_hidden_state
        expected = tagger.model.classifier(hidden)[0, window.positions].softmax(-1)
    np.testing.assert_allclose(tagger.probabilities([sentence])[0], expected.numpy(), atol=1e-5)


def test_a_window_reads_as_many_tokens_as_the_model_has_positions(tmp_path):
    """RoBERTa counts positions from behind its padding token: of 66, 64 can be used."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaModel

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(["<s>", "<pad>", "</s>", "<unk>", *alphabet])}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    PreTrainedTokenizerFast(tokenizer_object=backend, cls_token="<s>", sep_token="</s>", pad_token="<pad>", unk_token="<unk>").save_pretrained(tmp_path / "m")
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 66}
    RobertaModel(RobertaConfig(vocab_size=4 + len(alphabet), pad_token_id=1, **shape)).save_pretrained(tmp_path / "m")
    encoder = Encoder(stamp(tmp_path / "m"), max_tokens=64)
    assert len(encoder.strings(["Gout " * 40])[0].ids) == 64
    assert encoder.encode(encoder.strings(["Gout " * 40, "gout"])).dense().shape == (2, 16)  # byte-level: case is in it
    with pytest.raises(UserError, match="65 asked, 64 possible"):
        Encoder(stamp(tmp_path / "m"), max_tokens=65)
    with pytest.raises(UserError, match=r"lowercase not to be set.*no WordPiece"):
        Encoder(stamp(tmp_path / "m", lowercase="yes"))
    assert len(Tagger.load(tmp_path / "m", 62, 5).windows.cut([["Gout"] * 40])[0].pieces) <= 64
    with pytest.raises(UserError, match="at most 62"):
        Tagger.load(tmp_path / "m", 63, 5)


# ------------------------------------------------------------------------------------------------------------------------ Llama-2


@pytest.mark.parametrize("fast", [True, False])
def test_llama2_tokenizer_as_published(tmp_path, fast):
    """SentencePiece with bytes for what it does not know: ids as the sentencepiece library gives them, one <s> before, no </s>, no padding."""
    import sentencepiece

    if not fast:
        pytest.importorskip("google.protobuf", reason="transformers reads a tokenizer.model with protobuf")
    folder = published.llama2(tmp_path / "m", both=False, fast=fast)
    tokenizer = tokenization.load(folder)
    model = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert tokenizer.pad_token is None and len(tokenizer) == published.PIECES
    for text in [*list(published.sentences())[:200], *TERMS, "ΔF508 😀 ß\t2\n\n3  4", "Note:", "<1CUI> gout </1CUI>"]:
        if text.startswith(" "):
            continue  # transformers 5 writes no second ▁ before a blank, in tokenizer.json or not
        assert tokenizer(text)["input_ids"] == [1, *model.encode(text)], text
        assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    assert tokenizer("\U0001f9ec")["input_ids"] == [1, model.piece_to_id("▁"), *(model.piece_to_id(f"<0x{b:02X}>") for b in "\U0001f9ec".encode())]
    assert tokenization.load(folder, "no")("Gout")["input_ids"] == tokenizer("Gout")["input_ids"]
    with pytest.raises(UserError, match="lowercase not to be set"):
        tokenization.load(folder, "yes")


def test_a_tokenizer_model_that_is_none_is_one_line(tmp_path):
    folder = published.llama2(tmp_path / "m", both=False, fast=False)
    (folder / "tokenizer.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(UserError, match="unreadable tokenizer") as caught:
        tokenization.load(folder)
    assert "\n" not in str(caught.value)


def test_markers_and_case_come_from_the_config():
    linker = EncoderLinker.model_validate({"kind": "context", "model": "m", "markers": ["<ENT>", "</ENT>"]})
    assert linker.markers == ("<ENT>", "</ENT>") and EncoderLinker.model_validate_json(linker.model_dump_json()) == linker
    for wrong in (["<ENT>"], ["<ENT>", ""], "<ENT>"):
        with pytest.raises(ValueError, match="markers"):
            EncoderLinker.model_validate({"kind": "context", "model": "m", "markers": wrong})
    with pytest.raises(ValueError, match="lowercase"):
        Model(hub="a/b", lowercase="maybe")


def test_encoders_load_their_tokenizers_in_one_place(root):
    """Elsewhere only language models do, whose vocabularies are no word pieces; the card of an exported model says how others load it."""
    modules = sorted((root / "workflow" / "mentionforge").rglob("*.py"))
    loading = {p.relative_to(root / "workflow/mentionforge").as_posix() for p in modules if "AutoTokenizer.from_pretrained" in p.read_text(encoding="utf-8")}
    assert "tokenization.py" in loading and all(
        name in ("wheels.py", "export/models.py") or name.startswith("generation/") for name in loading - {"tokenization.py"}
    ), loading


@pytest.mark.parametrize(("written", "read"), [("yes", "yes"), ("no", "no"), ("auto", "auto"), ('"no"', "no")])
def test_lowercase_as_yaml_has_it(written: str, read: str) -> None:
    """YAML reads a bare yes or no as a boolean."""
    import yaml

    from mentionforge.model_settings import Model

    assert Model.model_validate(yaml.safe_load(f"{{path: x, lowercase: {written}}}")).lowercase == read
