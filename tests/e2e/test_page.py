"""The report page of the mini experiment with seeds, doses and end to end, in a browser and against the files it is made from."""

import csv
import io
import json
import math
import re
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

from checkout import snakemake
from latex import compile_latex, faults

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-quic"]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium; .ci/run installs it")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium, rich: Path):
    """A function that opens the page at an address and collects what a page should not do."""
    pages = []

    def open_page(address: str = "", width: int = 1280):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        faults: list[str] = []
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("request", lambda r: faults.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
        page.goto(f"file://{rich}/results/report/index.html{address}")
        page.wait_for_function("window.pageReady === true")
        pages.append((page, faults))
        return page, faults

    yield open_page
    for page, _ in pages:
        page.close()


def data_of(rich: Path) -> dict:
    page = (rich / "results/report/index.html").read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


@pytest.mark.parametrize("width", [1280, 390])
def test_opens_offline_and_fits(opened, width: int) -> None:
    """All figures and tables appear, nothing is asked of a network, and nothing is wider than the screen."""
    page, faults = opened(width=width)
    for part in page.query_selector_all("figure[data-figure], table[id^=table-]"):
        part.scroll_into_view_if_needed()
        page.wait_for_timeout(100)
    page.wait_for_function("[...document.querySelectorAll('.view')].every((v) => v.querySelector('svg'))")
    page.wait_for_function("document.querySelectorAll('table.dataTable tbody tr').length > 20")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert faults == []
    for label in page.eval_on_selector_all(".view svg", "all => all.map((s) => s.textContent)"):
        assert re.search("points|per cent|notes|minutes|MiB|errors", label), label


def test_search_sort_filter_and_download(opened, rich: Path) -> None:
    page, faults = opened("#numbers")
    page.wait_for_selector("#table-comparisons tbody tr")
    holder = page.locator("#table-comparisons").locator("xpath=ancestor::div[contains(@class,'dt-container')]")
    holder.locator("input[type=search]").first.fill("unseen_concept")
    page.wait_for_function("/out of/.test(document.querySelector('#table-comparisons').closest('.dt-container').textContent)")
    assert "unseen_concept" in page.locator("#table-comparisons tbody tr").first.inner_text()
    column = data_of(rich)["tables"]["comparisons"]["columns"].index("points")
    page.locator("#table-comparisons thead tr").first.locator("td, th").nth(column).locator(".dtcc-button_order").click()
    values = [float(row.locator("td").nth(column).inner_text()) for row in page.locator("#table-comparisons tbody tr").all()]
    assert values in (sorted(values), sorted(values, reverse=True)) and len(set(values)) > 1
    assert "comparisons.search=unseen_concept" in page.url and "comparisons.order=" in page.url
    with page.expect_download() as download:
        holder.get_by_text("Download CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig"))))
    assert rows and all("unseen_concept" in row.values() for row in rows)
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    page.wait_for_selector("#table-comparisons tbody tr")
    assert holder.locator("input[type=search]").first.input_value() == "unseen_concept"
    assert faults == []


def test_theme_selectors_and_concept_survive_a_reload(opened, rich: Path) -> None:
    browser = data_of(rich)["browser"]
    cui = next(c for c, entry in browser.items() if entry["changes"] and entry["notes"])
    page, faults = opened(f"#browser?theme=dark&concept={cui}&gains.system=context")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert cui in page.locator("#concept h3").first.inner_text() and page.locator("#concept mark").count() > 0
    page.locator("#figure-gains").scroll_into_view_if_needed()
    assert page.locator("#figure-gains select[name=system]").input_value() == "context"
    page.locator("#figure-gains select[name=corpus]").select_option("demo_semeval")
    page.click("#theme")
    assert "theme=light" in page.url and "gains.corpus=demo_semeval" in page.url
    page.reload()
    page.wait_for_function("window.pageReady === true")
    assert page.evaluate("document.documentElement.dataset.theme") == "light" and cui in page.locator("#concept h3").first.inner_text()
    assert faults == []


def test_sections_open_by_address_from_within_the_page(opened) -> None:
    page, faults = opened("")
    for section in ("run", "mentions", "headline"):
        page.evaluate(f"location.hash = '#{section}'")
        page.wait_for_function(f"Math.abs(document.getElementById('{section}').getBoundingClientRect().top) < innerHeight / 2")
    assert faults == []


def test_first_screen_answers_the_question(opened, rich: Path) -> None:
    """Three sentences and a figure, all within a screen of 1,400 by 900; each number is that of the comparisons in the Parquet files."""
    page, faults = opened("")
    page.set_viewport_size({"width": 1400, "height": 900})
    page.wait_for_selector("#figure-answer svg")
    assert page.locator("#figure-answer .panels").bounding_box()["y"] + page.locator("#figure-answer .panels").bounding_box()["height"] < 900
    frames = [
        pd.read_parquet(path).assign(corpus=path.parent.name) for path in sorted((rich / "results/statistics/normalization").glob("*/comparisons.parquet"))
    ]
    rows = pd.concat(frames)
    rows = rows[(rows["slice"] == "bucket") & (rows["group"] == "unseen_concept") & (rows["metric"] == "acc@1") & (rows["system"] == "mention")]
    sentences = page.locator(".answer li").all_inner_texts()
    assert 1 <= len(sentences) <= 3
    for sentence in sentences:
        index = re.search(r"\((train[+\w]*)\)", sentence)
        numbers = {float(text.replace("−", "-")) for text in re.findall(r"[+−]\d+\.\d(?= to| points)", sentence)}
        known = rows if index is None else rows[(rows["variant"] == index[1]) & (rows["against"] == "baseline")]
        assert numbers and numbers <= {round(100 * value, 1) for value in known["difference"]}
    assert faults == []


def test_bar_of_sections_does_not_overlap_on_a_phone(opened) -> None:
    page, faults = opened("")
    page.set_viewport_size({"width": 320, "height": 700})
    links, button = page.locator("nav .links").bounding_box(), page.locator("#theme").bounding_box()
    assert links["x"] + links["width"] <= button["x"]
    assert faults == []


def test_concepts_open_by_keyboard(opened, rich: Path) -> None:
    page, faults = opened("#mentions")
    page.wait_for_selector("#table-concepts tbody tr")
    page.locator("#table-concepts tbody tr").first.focus()
    page.keyboard.press("Enter")
    assert "concept=C" in page.url and page.locator("#concept h3").count() >= 2
    assert faults == []


def test_opens_quickly(opened, rich: Path) -> None:
    opened()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        opened()
        times.append(time.perf_counter() - start)
    assert min(times) < 2
    assert (rich / "results/report/index.html").stat().st_size < 15e6


def test_numbers_trace_to_files(rich: Path) -> None:
    """Ten numbers of each table of the page, looked up in the Parquet and benchmark files of the results folder."""
    results, data = rich / "results", data_of(rich)
    table = data["tables"]["comparisons"]
    for row in table["rows"][:: max(1, len(table["rows"]) // 10)]:
        shown = dict(zip(table["columns"], row, strict=True))
        frame = pd.read_parquet(results / f"statistics/{shown['task']}/{shown['corpus']}/comparisons.parquet")
        for name in ("system", "variant", "generator", "strategy", "against", "reference_system", "reference_generator", "slice", "group", "metric"):
            frame = frame[frame[name] == shown[name]]
        assert len(frame) == 1
        assert [shown["score"], shown["points"]] == pytest.approx([100 * frame["value"].iloc[0], 100 * frame["difference"].iloc[0]], abs=1e-3)
        assert shown["n"] == frame["n"].iloc[0] and shown["p"] == pytest.approx(frame["p"].iloc[0])
        assert shown["p_adjusted"] == pytest.approx(frame["p_adjusted"].iloc[0])
        assert [shown[c] for c in ("role", "family", "family_size", "covers")] == [frame[c].iloc[0] for c in ("role", "family", "family_size", "covers")]
    assert {"confirmatory", "exploratory"} == {row[table["columns"].index("role")] for row in table["rows"]}
    table = data["tables"]["cells"]
    for row in table["rows"][:: max(1, len(table["rows"]) // 10)]:
        shown = dict(zip(table["columns"], row, strict=True))
        frame = pd.read_parquet(results / f"evaluation/{shown['task']}/{shown['corpus']}.parquet")
        frame = frame[frame["split"] == "test"]
        for name in ("system", "variant", "generator", "strategy", "seed", "bucket", "metric"):
            frame = frame[frame[name] == shown[name]]
        assert shown["percent"] == (None if pd.isna(frame["value"].iloc[0]) else pytest.approx(100 * frame["value"].iloc[0], abs=1e-3))
    table = data["tables"]["runtime"]
    for row in table["rows"][:: max(1, len(table["rows"]) // 10)]:
        shown = dict(zip(table["columns"], row, strict=True))
        assert shown["wall_s"] == pytest.approx(pd.read_csv(results / f"benchmarks/{shown['job']}.tsv", sep="\t")["s"].iloc[-1])


def shown_tables(rich: Path) -> dict[str, pd.DataFrame]:
    """The page's tables as a reader sees them, by title; what stands behind a number in small is parted by a blank."""
    page = (rich / "results/report/index.html").read_text(encoding="utf-8")
    found = {}
    for figure in re.findall(r"<figure id=\"table-\d+-paper\">.*?</figure>", page, re.S):
        title = re.search(r"<figcaption><b>Table \d+\. (.*?)\.</b>", figure, re.S)
        frame = pd.read_html(io.StringIO(figure.replace("<small>", " <small>")), keep_default_na=False)[0]
        assert title
        found[title[1]] = frame.astype(str).map(lambda v: v.replace("\u2212", "-"))
    return found


def test_headline_and_tables_trace_to_files(rich: Path) -> None:
    """Numbers in the text and in the tables above the figures, ten of each, looked up in Parquet files."""
    results, page = rich / "results", (rich / "results/report/index.html").read_text(encoding="utf-8")
    frames = {t: pd.concat([pd.read_parquet(p) for p in sorted((results / "evaluation" / t).glob("*.parquet")) if "errors" not in p.name]) for t in
              ("normalization", "recognition", "end_to_end")}  # fmt: skip
    tests = {t: {f: frame[frame["split"] == "test"] for f, frame in frames.items()}[t] for t in frames}
    compared = pd.concat([pd.read_parquet(p).assign(corpus=p.parts[-2]) for p in sorted((results / "statistics/normalization").rglob("comparisons.parquet"))])
    gains = compared[(compared["against"] == "baseline") & (compared["slice"] == "all") & (compared["metric"] == "acc@1")]
    texts = re.findall(r"<dt>(.*?)</dt><dd><b>(.*?)</b><br>(.*?)</dd>", page, re.S)
    labels = [label for label, *_ in texts]
    assert any("Normalization: highest score" in label for label in labels) and any("largest gain" in label for label in labels)
    said = next(gain for label, _, gain in texts if label.startswith("Normalization") and "largest gain" in label)
    largest = gains[~gains["few"]].sort_values("difference").iloc[-1]
    assert f"{100 * largest['difference']:+.1f} points against {100 * largest['reference']:.1f}" in said and f"n = {largest['n']:,}" in said
    assert f"{100 * largest['low']:+.1f} to {100 * largest['high']:+.1f}" in said.replace("\u2212", "-")

    assert "hold the choice of test documents and training seeds. They leave out what text of another generator seed would give" in page
    assert "(confirmatory), in " in page and "are exploratory" in page
    tables_ = shown_tables(rich)
    families = tables_["Families of comparisons"]
    for _, row in families[families["task"] == "normalization"].iterrows():
        own = compared[(compared["corpus"] == row["corpus"]) & (compared["family"] == row["family"])]
        assert int(row["comparisons, n"].replace(",", "")) == len(own) == own["family_size"].iloc[0] and row["role"] == own["role"].iloc[0]
        assert row["could be significant"].startswith("yes") == own["reachable"].any()
    table, checked = tables_["Normalization, acc@1, index train"], 0
    for _, row in table.iloc[:: max(1, len(table) // 10)].iterrows():
        for column in [c for c in table.columns if ", all" in c or ", unseen" in c]:
            if not row[column]:
                continue
            corpus, bucket = column.split(" (")[0].split(", ")
            key = {"corpus": corpus, "generator": row["generator"], "strategy": row["strategy"], "system": row["linker"], "variant": "train", "metric": "acc@1"}
            key["bucket"] = "all" if bucket == "all" else "unseen_concept"
            at = tests["normalization"]
            for name, value in key.items():
                at = at[at[name] == value]
            assert len(at) == 1 and row[column].split()[0] == f"{100 * at['value'].iloc[0]:.1f}" and f"n={at['n'].iloc[0]}" in column
            checked += 1
    assert checked >= 10

    for title, task, metric in (
        ("Normalization, acc@1 by subset", "normalization", "acc@1"),
        ("Recognition, strict recall by subset", "recognition", "strict_recall"),
    ):
        table, at, checked = tables_[title], tests[task], 0
        for _, row in table.iterrows():
            for name, bucket in (
                ("all", "all"),
                ("new surface", "new_surface"),
                ("new surface and concept", "new_surface_concept"),
                ("one concept", "one_concept"),
            ):
                cell = at[(at["bucket"] == bucket) & (at["metric"] == metric) & (at["corpus"] == row["corpus"]) & (at["strategy"] == row["strategy"])]
                for column, own in (("system", row.iloc[1]), ("variant", row.iloc[2]), ("generator", row["generator"])):
                    cell = cell[cell[column] == own]
                shown = "–" if cell["value"].isna().all() else f"{100 * cell['value'].mean():.1f}"
                assert row[f"subset, {name}"].replace("†", "") == f"{shown} n={cell['n'].max():,}"
                checked += 1
        assert checked >= 4, title
    assert set(tables_["Knowledge bases without a hierarchy"]["why"]) == {"MRREL.RRF is not in the release"}

    table, at = tables_["End to end, recognition into normalization"], tests["end_to_end"]
    for _, row in table.iterrows():
        cell = at[(at["system"] == f"{row['recognizer']}/{row['linker']}") & (at["variant"] == f"{row['schedule']}/{row['index']}")]
        cell = cell[(cell["generator"] == row["generator"]) & (cell["strategy"] == row["strategy"]) & (cell["bucket"] == "all")]
        assert row["all, F1"] == f"{100 * cell.loc[cell['metric'] == 'span_concept_f1', 'value'].mean():.1f}"
        assert row["seeds"] == str(cell["seed"].nunique())
    assert len(table) == 3

    crossed = tables_["Recognition across corpora"]
    assert set(crossed["trained on"]) == {"demo_ncbi"} and set(crossed["corpus"]) == {"demo_semeval"} and set(crossed["seeds"]) == {"2"}
    wrong = pd.read_parquet(results / "evaluation/recognition/demo_ncbi.errors.parquet")
    wrong = wrong[wrong["split"] == "test"]
    table, at = tables_["Recognition, other scores and errors"], tests["recognition"]
    for _, row in table.iterrows():
        own = (wrong["system"] == row["recognizer"]) & (wrong["variant"] == row["schedule"]) & (wrong["strategy"] == row["strategy"])
        for kind in ("missed", "boundary", "spurious"):
            assert float(row[f"{kind}, n"]) == pytest.approx((own & (wrong["error"] == kind)).sum() / int(row["seeds"]), abs=0.05)
        cell = at[
            (at["corpus"] == "demo_ncbi") & (at["system"] == row["recognizer"]) & (at["variant"] == row["schedule"]) & (at["strategy"] == row["strategy"])
        ]
        for column, bucket, metric in (
            ("partial, F1", "all", "partial_f1"),
            ("token, F1", "all", "token_f1"),
            ("unseen concept, F1", "unseen_concept", "strict_f1"),
        ):
            assert row[column] == f"{100 * cell.loc[(cell['bucket'] == bucket) & (cell['metric'] == metric), 'value'].mean():.1f}"


def test_figures_trace_to_files(rich: Path) -> None:
    """Ten marks of every figure of scores, looked up in Parquet files."""
    results, shown = rich / "results", data_of(rich)["figures"]
    for name in ("answer", "gains", "controls", "groups", "dose", "sweep_notes_per_concept", "recognition"):
        marks, task = shown[name], "recognition" if name == "recognition" else "normalization"
        for mark in marks[:: max(1, len(marks) // 10)]:
            frame = pd.read_parquet(results / f"statistics/{task}/{mark['corpus']}/comparisons.parquet")
            strategy = f"{mark['strategy']}~notes_per_concept={mark['dose']:.0f}" if name.startswith("sweep") else mark["strategy"]
            for column, value in (("strategy", strategy), *((c, mark[c]) for c in ("system", "variant", "generator", "against", "slice", "group", "metric"))):
                frame = frame[frame[column] == value]
            frame = frame[(frame["reference_generator"] == mark["reference"]) | (frame["against"] == "kb")]
            assert len(frame) == 1, mark
            row = frame.iloc[0]
            drawn = [math.nan if mark[key] is None else mark[key] for key in ("points", "from", "to")]  # one document has no interval
            assert drawn == pytest.approx([100 * row[c] for c in ("difference", "low", "high")], abs=1e-3, nan_ok=True), mark
            assert mark["n"] == row["n"]
    for name, task, metric in (("seeds_recognition", "recognition", "strict_f1"), ("seeds_end_to_end", "end_to_end", "span_concept_f1")):
        marks = [m for m in shown[name] if m["measure"].endswith("all mentions")]
        cells = {(m["generator"], m["strategy"], m["system"], m["variant"]) for m in marks}
        assert len(cells) == (2 if task == "end_to_end" else 4) and len(marks) == 2 * len(cells)
        for mark in marks:
            frame = pd.read_parquet(results / f"evaluation/{task}/{mark['corpus']}.parquet")
            frame = frame[(frame["split"] == "test") & (frame["bucket"] == "all") & (frame["metric"] == metric)]
            for column in ("generator", "strategy", "system", "variant"):
                frame = frame[frame[column] == mark[column]]
            values = 100 * frame["value"]
            assert mark["percent"] == pytest.approx(100 * frame.loc[frame["seed"] == int(mark["seed"]), "value"].iloc[0], abs=1e-3)
            assert [mark["mean"], mark["sd"]] == pytest.approx([values.mean(), values.std()], abs=1e-3)


def test_tables_of_the_run_compile(rich: Path, tmp_path: Path) -> None:
    text = (rich / "results/summary/tables.tex").read_text(encoding="utf-8")
    parts = text.split("\n\n")
    assert len(parts) >= 10 and all(faults(part) == [] for part in parts)
    if shutil.which("pdflatex"):
        compile_latex(text, tmp_path)


def test_snakemakes_own_report_has_captions(rich: Path) -> None:
    """`snakemake --report` runs, and names every figure and table with its caption."""
    snakemake(rich, "--configfile", "tests/mini.yaml", "tests/rich.yaml", "--report", "report.html")
    page = (rich / "report.html").read_text(encoding="utf-8")
    captions = {path.stem: path.read_text(encoding="utf-8") for path in (rich / "workflow/report").glob("*.rst")}
    of_figures = dict(re.findall(r'^"(\w+)": "(.*)",$', captions.pop("figures"), re.M))
    for file in sorted((rich / "results/summary/figures").glob("*.svg")):
        assert file.name in page and of_figures[file.stem].split(":")[0] in page and "mailto:" not in page, file
    for name, caption in captions.items():
        assert caption[:24] in page, name


def test_tidy_files_carry_their_provenance(rich: Path) -> None:
    summary = rich / "results/summary"
    frame = pd.read_csv(summary / "metrics.csv", keep_default_na=False)
    for name in ("git_revision", "config_digest", "kb", "kb_release", "kb_digest", "corpus_digest", "wall_s", "peak_mib"):
        assert frame[name].astype(str).str.len().gt(0).all(), name
    encoders = frame[frame["system"].isin(["mention", "context", "minilm"])]
    assert len(encoders) and encoders["model_revision"].str.contains("minilm=").all()
    assert "\\toprule" in (summary / "tables.tex").read_text() and "unseen" in (summary / "tables.md").read_text()
    figures = {p.stem for p in (summary / "figures").glob("*.svg")}
    assert {"answer", "gains", "controls", "groups", "dose", "recognition", "errors", "indexes", "funnel", "runtime"} | {
        "sweep_notes_per_concept",
        "seeds_recognition",
        "seeds_end_to_end",
    } == figures
    assert all((summary / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF") for name in figures)
