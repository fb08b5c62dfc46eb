"""The report page of the finished mini experiment, in a browser and against the files it is made from."""

import csv
import io
import json
import re
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest

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
def opened(chromium, finished: Path):
    """A function that opens the page at an address and collects what a page should not do."""
    pages = []

    def open_page(address: str = "", width: int = 1280):
        page = chromium.new_page(viewport={"width": width, "height": 900})
        faults: list[str] = []
        page.on("console", lambda m: faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: faults.append(str(e)))
        page.on("request", lambda r: faults.append(r.url) if not r.url.startswith(("file:", "data:", "blob:")) else None)
        page.goto(f"file://{finished}/results/report/index.html{address}")
        page.wait_for_function("window.pageReady === true")
        pages.append((page, faults))
        return page, faults

    yield open_page
    for page, _ in pages:
        page.close()


def data_of(finished: Path) -> dict:
    page = (finished / "results/report/index.html").read_text(encoding="utf-8")
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


def test_search_sort_filter_and_download(opened, finished: Path) -> None:
    page, faults = opened("#numbers")
    page.wait_for_selector("#table-comparisons tbody tr")
    holder = page.locator("#table-comparisons").locator("xpath=ancestor::div[contains(@class,'dt-container')]")
    holder.locator("input[type=search]").first.fill("unseen_concept")
    page.wait_for_function("/out of/.test(document.querySelector('#table-comparisons').closest('.dt-container').textContent)")
    assert "unseen_concept" in page.locator("#table-comparisons tbody tr").first.inner_text()
    column = data_of(finished)["tables"]["comparisons"]["columns"].index("points")
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


def test_theme_selectors_and_concept_survive_a_reload(opened, finished: Path) -> None:
    browser = data_of(finished)["browser"]
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


def test_concepts_open_by_keyboard(opened, finished: Path) -> None:
    page, faults = opened("#browser")
    page.wait_for_selector("#table-concepts tbody tr")
    page.locator("#table-concepts tbody tr").first.focus()
    page.keyboard.press("Enter")
    assert "concept=C" in page.url and page.locator("#concept h3").count() >= 2
    assert faults == []


def test_opens_quickly(opened, finished: Path) -> None:
    opened()
    times = []
    for _ in range(3):
        start = time.perf_counter()
        opened()
        times.append(time.perf_counter() - start)
    assert min(times) < 2
    assert (finished / "results/report/index.html").stat().st_size < 15e6


def test_numbers_trace_to_files(finished: Path) -> None:
    """Ten numbers of each table of the page, looked up in the Parquet and benchmark files of the results folder."""
    results, data = finished / "results", data_of(finished)
    table = data["tables"]["comparisons"]
    for row in table["rows"][:: max(1, len(table["rows"]) // 10)]:
        shown = dict(zip(table["columns"], row, strict=True))
        frame = pd.read_parquet(results / f"statistics/{shown['task']}/{shown['corpus']}/comparisons.parquet")
        for name in ("system", "variant", "generator", "strategy", "against", "reference_generator", "slice", "group", "metric"):
            frame = frame[frame[name] == shown[name]]
        assert len(frame) == 1
        assert [shown["score"], shown["points"]] == pytest.approx([100 * frame["value"].iloc[0], 100 * frame["difference"].iloc[0]], abs=1e-3)
        assert shown["n"] == frame["n"].iloc[0] and shown["p"] == pytest.approx(frame["p"].iloc[0])
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


def test_tidy_files_carry_their_provenance(finished: Path) -> None:
    summary = finished / "results/summary"
    frame = pd.read_csv(summary / "metrics.csv", keep_default_na=False)
    for name in ("git_revision", "config_digest", "kb", "kb_release", "kb_digest", "corpus_digest", "wall_s", "peak_mib"):
        assert frame[name].astype(str).str.len().gt(0).all(), name
    encoders = frame[frame["system"].isin(["mention", "context", "minilm"])]
    assert len(encoders) and encoders["model_revision"].str.contains("minilm=").all()
    assert "\\toprule" in (summary / "tables.tex").read_text() and "unseen" in (summary / "tables.md").read_text()
    figures = {p.stem for p in (summary / "figures").glob("*.svg")}
    assert {"gains", "controls", "groups", "dose", "recognition", "errors", "indexes", "funnel", "runtime"} == figures
    assert all((summary / f"figures/{name}.pdf").read_bytes().startswith(b"%PDF") for name in figures)
