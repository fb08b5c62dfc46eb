"""Context, the spaCy component and the HTTP service, on a dictionary."""

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor

import pytest
import spacy
from fastapi.testclient import TestClient
from spacy.tokens import Doc, DocBin

import annotating
from annotating import TESTS
from checkout import ROOT
from mentionforge.annotate import bundle, cells
from mentionforge.annotate.component import Component
from mentionforge.annotate.context import Context
from mentionforge.annotate.pipeline import Annotator
from mentionforge.annotate.service import Batcher, Limits, create
from mentionforge.errors import UserError

CELL = "recognition/c/none/none/dictionary/untrained/seed0"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    bundle.write(cells.find(annotating.make(folder) / CELL, linker="exact/train+kb"), folder / "b")
    return folder / "b"


@pytest.fixture(scope="module")
def annotator(packed):
    return Annotator(bundle.read(packed))


# ---------------------------------------------------------------------------------------------------------------- context

SAID = [
    ("The patient denies gout.", {"gout": ("negated",)}),
    ("He has gout but no diabetes mellitus.", {"gout": (), "diabetes mellitus": ("negated",)}),
    ("Breast cancer was ruled out. Gout persists.", {"Breast cancer": ("negated",), "Gout": ()}),
    ("Family history of breast cancer and Huntington disease.", {"breast cancer": ("family",), "Huntington disease": ("family",)}),
    ("Her mother had gout; the patient has Parkinson disease.", {"gout": ("family",), "Parkinson disease": ()}),
    ("No family history of diabetes mellitus.", {"diabetes mellitus": ("negated", "family")}),
    ("Diabetes mellitus is common in the family.", {"Diabetes mellitus": ("family",)}),
    ("Return if gout comes back.", {"gout": ("hypothetical",)}),
    ("She is at risk for breast cancer.", {"breast cancer": ("hypothetical",)}),
    ("Per his mother he has gout.", {"gout": ()}),
    ("Gout was seen.\n\nNo cough. Diabetes mellitus too.", {"Gout": (), "Diabetes mellitus": ()}),
    ("Not only gout, also breast cancer.", {"gout": (), "breast cancer": ()}),
]


def test_context(packed):
    """What people would say; all texts in one pass, so nothing reaches from one sentence or text to another."""
    reader = Annotator(bundle.read(packed), context=Context())
    for (text, expected), mentions in zip(SAID, reader.annotate([t for t, _ in SAID]), strict=True):
        assert {m.surface: m.context for m in mentions} == expected, text
    assert all(m.context == () for [m, *_] in Annotator(bundle.read(packed)).annotate([SAID[0][0]]))


# -------------------------------------------------------------------------------------------------------------- component


def test_component_gives_the_annotators_mentions(packed, annotator):
    nlp = spacy.blank("en")
    nlp.add_pipe("mentionforge", config={"bundle": str(packed)})
    texts = TESTS * 30
    docs = list(nlp.pipe(texts, batch_size=17))
    assert [d.text for d in docs] == texts
    for doc, mentions in zip(docs, annotator.annotate(texts), strict=True):
        assert [(e.start_char, e.end_char, e.kb_id_, e.label_) for e in doc.ents] == [
            (m.start, m.end, m.concept.cui if m.concept else "", "Disease") for m in mentions
        ]
        assert [e._.mentionforge for e in doc.ents] == mentions
    one = nlp(TESTS[0])
    assert [e.kb_id_ for e in one.ents] == [e.kb_id_ for e in docs[0].ents] and len(one.spans["mentionforge"]) == 8


def test_component_and_other_entities(annotator):
    """Entities of others stay unless they overlap; a mention inside a token is widened to it."""
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "X", "pattern": "today"}, {"label": "X", "pattern": "gout clinic"}])
    doc = Component(annotator)(nlp("In the gout clinic today: breastfed, type2/gout-like."))
    assert [(e.text, e.label_) for e in doc.ents if e.label_ == "X"] == [("today", "X")]
    assert doc.ents[0].text == "gout" and all(e.text for e in doc.ents)


@pytest.mark.slow
def test_component_is_found_by_its_entry_point(packed, tmp_path):
    """As an installed distribution registers it, without importing this package; and a saved pipeline comes back."""
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["spacy_factories"]
    info = tmp_path / "site/mentionforge_under_test-1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mentionforge-under-test\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[spacy_factories]\n" + "".join(f"{k} = {v}\n" for k, v in points.items()))
    code = (
        "import sys, spacy\nassert not any(m.startswith('mentionforge') for m in sys.modules)\nnlp = spacy.blank('en')\n"
        f"nlp.add_pipe('mentionforge', config={{'bundle': {str(packed)!r}}})\nnlp.to_disk({str(tmp_path / 'nlp')!r})\n"
        f"print([(e.text, e.kb_id_) for e in spacy.load({str(tmp_path / 'nlp')!r})('Gout today.').ents])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), str(ROOT / "workflow")])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "[('Gout', 'C0018099')]", done.stderr


def test_documents_are_plain_data(packed, annotator):
    """Sent to other processes, to bytes and back, and into a DocBin with user data: the mentions are the same."""
    nlp = spacy.blank("en")
    nlp.add_pipe("mentionforge", config={"bundle": str(packed), "context": True})
    texts = TESTS * 2
    docs = list(nlp.pipe(texts))
    expected = [[e._.mentionforge for e in d.ents] for d in docs]
    assert [len(e) for e in expected] == [8, 5, 0] * 2 and any(m.context for m in expected[0])
    packed_docs = DocBin(store_user_data=True, docs=docs).to_bytes()
    for again in (
        [Doc(nlp.vocab).from_bytes(d.to_bytes()) for d in docs],
        list(DocBin(store_user_data=True).from_bytes(packed_docs).get_docs(nlp.vocab)),
        list(nlp.pipe(texts, n_process=2, batch_size=2)),
    ):
        assert [[e._.mentionforge for e in d.ents] for d in again] == expected
        assert [[e.kb_id_ for e in d.spans["mentionforge"]] for d in again] == [[e.kb_id_ for e in d.spans["mentionforge"]] for d in docs]
    assert spacy.blank("en").from_bytes(nlp.to_bytes(), exclude=["mentionforge"]) is not None


@pytest.mark.slow
def test_more_than_a_million_characters_in_a_line(packed):
    """Every mention is found at its place, by the annotator with context and in spaCy."""
    piece = "word " * 20_000 + "Known gout and no diabetes mellitus. "
    text = piece * 11
    assert len(text) > 1_000_000 and "\n" not in text
    [found] = Annotator(bundle.read(packed), context=Context()).annotate([text])
    expected = [(i * len(piece) + 100_006, "gout", ()) for i in range(11)] + [(i * len(piece) + 100_018, "diabetes mellitus", ("negated",)) for i in range(11)]
    assert [(m.start, m.surface, m.context) for m in found] == sorted(expected)
    nlp = spacy.blank("en")
    nlp.max_length = 2_000_000
    nlp.add_pipe("mentionforge", config={"bundle": str(packed)})
    assert [e.start_char for e in nlp(text).ents] == [start for start, _, _ in sorted(expected)]


def test_a_saved_pipeline_finds_its_bundle(packed, tmp_path, monkeypatch):
    """Moved together with its bundle, or with the bundle in or beside it; otherwise it says where it looked."""
    home = tmp_path / "here"
    shutil.copytree(packed, home / "bundles/b")
    monkeypatch.chdir(home)
    nlp = spacy.blank("en")
    nlp.add_pipe("mentionforge", config={"bundle": "bundles/b"})
    (home / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    nlp.to_disk(home / "models/nlp")
    assert spacy.load(home / "models/nlp")("Gout").ents[0].kb_id_ == "C0018099"
    moved = tmp_path / "moved"
    home.rename(moved)
    assert spacy.load(moved / "models/nlp")("Gout").ents[0].kb_id_ == "C0018099"
    for place in (moved / "models/nlp/b", moved / "models/b"):
        shutil.copytree(packed, place)
        (moved / "bundles").rename(moved / "away")
        assert spacy.load(moved / "models/nlp")("Gout").ents[0].kb_id_ == "C0018099"
        shutil.rmtree(place)
        (moved / "away").rename(moved / "bundles")
    shutil.rmtree(moved / "bundles")
    with pytest.raises(UserError, match="no bundle") as raised:
        spacy.load(moved / "models/nlp")
    for place in (tmp_path / "bundles/b", moved / "bundles/b", moved / "models/nlp/b", moved / "models/b"):
        assert str(place) in str(raised.value)
    nlp = spacy.blank("en")
    nlp.add_pipe("mentionforge", config={"bundle": "nowhere"})
    with pytest.raises(UserError, match=r"no bundle.*nowhere"):
        nlp("Gout")


# ----------------------------------------------------------------------------------------------------------------- service


@pytest.fixture
def client(annotator):
    with TestClient(create(annotator, Limits(max_mb=0.01, max_documents=3)), base_url="http://localhost") as client:
        yield client


def ask(client, *texts):
    return client.post("/annotate", json={"documents": [{"text": t, "doc_id": str(i)} for i, t in enumerate(texts)]})


def test_service_answers_what_the_annotator_finds(client, annotator):
    answer = ask(client, *TESTS)
    assert answer.status_code == 200
    for i, (document, mentions) in enumerate(zip(answer.json()["documents"], annotator.annotate(TESTS), strict=True)):
        assert document["doc_id"] == str(i)
        assert [(m["spans"][0]["start"], m["surface"], m["concept_ids"]) for m in document["mentions"]] == [
            (m.start, m.surface, [f"CUI:{m.concept.cui}"] if m.concept else []) for m in mentions
        ]
    schema = client.get("/openapi.json").json()
    assert {"/annotate", "/health", "/about"} <= set(schema["paths"]) and "MentionOut" in schema["components"]["schemas"]
    assert client.get("/health").json()["status"] == "ok" and client.get("/about").json()["card"]["kb"]["name"] == "k"
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"] and "http" not in page.text.split("<script>")[1]


def test_service_refuses_what_is_too_much(client):
    secret = "Gout of Mr. Secret. "
    assert ask(client, "a", "b", "c", "d").status_code == 413
    too_long = ask(client, secret * 1000)
    assert too_long.status_code == 413
    chunks = (chunk for chunk in [b'{"documents": [{"text": "' + b"x" * 20_000, b'"}]}'])  # without a length in the header
    assert client.post("/annotate", content=chunks, headers={"Content-Type": "application/json"}).status_code == 413
    for wrong in ({"documents": []}, {"documents": [{"text": secret, "more": secret}]}, {"text": secret}, {"documents": [{"text": [secret]}]}):
        answer = client.post("/annotate", json=wrong)
        assert answer.status_code == 422 and "Secret" not in answer.text
    for path in ("/about", "/", "/health/"):
        assert client.get(path, headers={"Host": "evil.example"}, follow_redirects=False).status_code == 400, "called by another name"
    assert client.get("/annotate").status_code == 405 and client.get("/docs").status_code == 404
    assert ask(client, "Gout").status_code == 200


def test_health_answers_by_any_name(client):
    """An orchestrator calls the address that the container has at the moment, some without any name."""
    for host in ("10.244.0.5:8000", "[fd00::7]", "pod.internal", ""):
        assert client.get("/health", headers={"Host": host}).json()["status"] == "ok"
        assert client.head("/health", headers={"Host": host}).status_code == 200


def test_requests_that_cannot_be_answered(client):
    """Refused with a reason, never with an error of ours, and without a word of them."""
    half = rb'"Secret \ud83d"'
    documents = (
        b'{"text": %s}' % half,
        b'{"text": "Gout", "doc_id": %s}' % half,
        b'{"text": "Gout"}, {"text": %s}' % half,
        b'{"text": "Gout", %s: 1}' % rb'"\udc00"',
    )
    bodies = [b'{"documents": [%s]}' % d for d in documents] + [
        b"{Secret",
        b'{"documents": [{"text": "Secret \xe9"}]}',
        b"[" * 9000,
        b"1" * 9000,
        rb'"\ud800"',
        b"\xff",
        b"",
    ]
    for body in bodies:
        answer = client.post("/annotate", content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code in (400, 422) and answer.json()["detail"] and "Secret" not in answer.text, body
    assert all(client.post("/annotate", content=b).status_code == 422 for b in bodies[:4])
    body = rb'{"documents": [{"text": "\ud83d\ude00 gout", "doc_id": "\ud83d\ude00"}]}'
    answer = client.post("/annotate", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    pair = answer.json()["documents"][0]
    assert pair["doc_id"] == "\U0001f600" and pair["mentions"][0]["spans"] == [{"start": 2, "end": 6}]


@pytest.mark.slow
def test_a_bad_request_costs_its_neighbours_nothing(annotator):
    """40 at a time, some refused and some that no model could read: all others are answered."""

    class Choosy:
        materials, top, nil_threshold, batches = annotator.materials, 5, None, 0

        def annotate(self, texts):
            texts = list(texts)
            self.batches += len(texts) > 1
            time.sleep(0.05)
            if any("unreadable" in t for t in texts):
                raise IndexError("unreadable")
            return annotator.annotate(texts)

    choosy = Choosy()
    with TestClient(create(choosy), base_url="http://localhost") as client, ThreadPoolExecutor(40) as pool:

        def one(i):
            body = {3: rb'{"text": "\ud800 gout"}', 5: b'{"text": "unreadable"}'}.get(i % 8, b'{"text": "Gout %d"}' % i)
            return client.post("/annotate", content=b'{"documents": [%s]}' % body, headers={"Content-Type": "application/json"})

        answers = list(pool.map(one, range(40)))
    assert [a.status_code for a in answers] == [{3: 422, 5: 500}.get(i % 8, 200) for i in range(40)]
    assert all(len(a.json()["documents"][0]["mentions"]) == 1 for a in answers if a.status_code == 200)
    assert choosy.batches, "requests were annotated together"


class Slow:
    """An annotator that takes its time, waits to be let go, or fails."""

    def __init__(self, seconds=0.0, error=None, gate=None):
        self.seconds, self.error, self.gate, self.calls = seconds, error, gate, []

    def annotate(self, texts):
        texts = list(texts)
        self.calls.append(texts)
        time.sleep(self.seconds)
        if self.gate:
            self.gate.wait(60)
        if self.error:
            raise self.error
        return [[] for _ in texts]


def until(holds):
    """Wait for something that another thread does."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_requests_at_the_same_time_are_one_batch():
    slow = Slow(0.3)

    async def many():
        batcher = Batcher(slow, Limits())
        work = asyncio.create_task(batcher.work())
        await asyncio.gather(*(batcher.submit([f"t{i}"]) for i in range(20)))
        work.cancel()

    asyncio.run(many())
    assert len(slow.calls) <= 2 and sorted(t for call in slow.calls for t in call) == sorted(f"t{i}" for i in range(20))


def test_slow_full_and_failing(annotator, caplog):
    with TestClient(create(Slow(1.0), Limits(timeout_s=0.2)), base_url="http://localhost") as client:
        assert ask(client, "x").status_code == 504
    gate = threading.Event()
    slow = Slow(gate=gate)
    service = create(slow, Limits(waiting=1))
    with TestClient(service, base_url="http://localhost") as client, ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, client, "x")
        until(lambda: slow.calls)
        second = pool.submit(ask, client, "y")
        until(lambda: service.state.batcher.queue.full())
        full = ask(client, "z")
        assert full.status_code == 503 and full.headers["retry-after"]
        gate.set()
        assert first.result().status_code == second.result().status_code == 200
    caplog.set_level(logging.DEBUG)
    with TestClient(create(Slow(error=ValueError("Gout of Mr. Secret"))), base_url="http://localhost") as client:
        answer = ask(client, "Gout of Mr. Secret")
        assert answer.status_code == 500 and "ValueError" in answer.text and "Secret" not in answer.text
        assert ask(client, "again").status_code == 500, "it goes on after an error"
    assert "Secret" not in caplog.text and "ValueError" in caplog.text


# -------------------------------------------------------------------------------------------------------------------- page


@pytest.fixture(scope="module")
def served(packed):
    """The address of a service of its own, and what it has printed."""
    command = [sys.executable, "-m", "mentionforge.cli", "serve", "--bundle", str(packed), "--port", "0", "--context"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        line = process.stderr.readline()
        assert line.startswith("http://127.0.0.1:"), line + process.stderr.read()
        yield line.split()[0], process
        process.terminate()


@pytest.mark.slow
def test_page_in_a_browser(served):
    """A note is pasted, and its mentions are marked where they are; nothing else is asked of any network; nothing of it is printed."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium; .ci/run installs it")
    address, process = served
    note = "\U0001f600 <b>Huntington</b> disease (HD)? No gout.\nType 2 diabetes mellitus & <script>alert(1)</script>"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"])
        page = browser.new_page()
        faults: list[str] = []
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" and "favicon" not in m.location.get("url", "") else None)
        page.on("request", lambda r: faults.append(r.url) if not r.url.startswith(address) else None)
        page.goto(address)
        page.fill("#note", note)
        page.click("#annotate")
        page.wait_for_selector("#text mark")  # the page forbids what wait_for_function needs
        assert page.evaluate("document.getElementById('text').textContent") == note
        assert page.eval_on_selector_all("#text mark", "all => all.map(m => m.textContent)") == ["HD", "gout", "Type 2 diabetes mellitus"]
        assert page.locator("#text mark.negated").inner_text() == "gout"
        assert page.locator("#mentions tbody tr").count() == 3 and "C0011860" in page.locator("#mentions").inner_text()
        assert page.locator("#text script").count() == 0
        page.locator("#text mark").last.click()
        assert page.locator("#mentions tr.chosen").inner_text().startswith("Type 2 diabetes mellitus")
        page.click("#example")
        page.locator("#text", has_text="colchicine").wait_for()
        assert page.locator("#text mark").count() > 3 and "recognizer c/none/none/dictionary/untrained/seed0;" in page.locator("#about").inner_text()
        page.fill("#note", "x " * 2_000_000)
        page.click("#annotate")
        page.locator("#status", has_text="larger than").wait_for()
        browser.close()
    assert [f for f in faults if "413" not in f] == []
    process.terminate()
    printed = process.stderr.read()
    assert "gout" not in printed.lower() and "diabetes" not in printed.lower()


@pytest.mark.slow
def test_serving_tells_what_is_wrong(packed):
    command = [sys.executable, "-m", "mentionforge.cli", "serve", "--bundle", str(packed), "--host", "203.0.113.1", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "cannot listen" in done.stderr and "Traceback" not in done.stderr
