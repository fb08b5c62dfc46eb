"""Report: metrics become tidy tables and one page of Markdown.

REQUIRED INPUTS
    {results}/evaluation/{recognition,normalization,end_to_end}/{corpus}.parquet, {recognition,normalization}/{corpus}.errors.parquet, {results}/generation/{generator}/funnel.json
    {results}/statistics/{task}/{corpus}/{comparisons,changes}.parquet, {results}/{kb,corpora}/*/stats.json, benchmarks
OUTPUTS
    {results}/summary/{recognition,normalization,end_to_end,generation,metrics,comparisons,seeds,errors,hierarchy,runtime}.csv, summary.md, tables.md, tables.tex
    {results}/report/index.html, {results}/summary/figures/*.{svg,pdf}
    {results}/sweeps/sweeps.{csv,md}, *.svg where the configuration sweeps something
"""

from mentionforge.dag.report import ReportInputs

REPORT = ReportInputs(CONFIG)


rule summary:
    """Write CSV files with a row per cell, and the tables of summary.md."""
    input:
        spec=spec_of("report", "summary"),
        metrics=REPORT.metrics,
        errors=REPORT.recognition_errors,
        funnels=REPORT.funnels,
        corpora=REPORT.corpus_stats,
        kbs=REPORT.kb_stats,
        external=REPORT.external_predictions,
        models=REPORT.fetched_models,
    output:
        recognition=RESULTS.summary("recognition.csv"),
        normalization=RESULTS.summary("normalization.csv"),
        end_to_end=RESULTS.summary("end_to_end.csv"),
        generation=RESULTS.summary("generation.csv"),
        markdown=RESULTS.summary("summary.md"),
    log:
        RESULTS.log("report/summary"),
    benchmark:
        RESULTS.benchmark("report/summary")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        out=subpath(output.markdown, parent=True),
        inputs=flags(metrics="--metrics", errors="--errors", funnels="--funnel", corpora="--corpus", kbs="--kb", models="--model", external="--external"),
    message:
        "write the summary tables"
    shell:
        "mentionforge report summary {params.inputs} --out {params.out:q} 2>&1 | tee {log:q}"


rule tidy:
    """Write CSV files with a row per cell and metric, per comparison and per job, with provenance; and the tables in the paper's layout."""
    input:
        spec=spec_of("report", "tidy"),
        metrics=REPORT.metrics,
        comparisons=REPORT.compared("comparisons"),
        errors=REPORT.recognition_errors,
        wrong=REPORT.normalization_errors,
        models=REPORT.fetched_models,
    output:
        metrics=report(RESULTS.summary("metrics.csv"), caption="../report/metrics.rst", category="Tables"),
        comparisons=report(RESULTS.summary("comparisons.csv"), caption="../report/comparisons.rst", category="Tables"),
        seeds=report(RESULTS.summary("seeds.csv"), caption="../report/seeds.rst", category="Tables"),
        errors=report(RESULTS.summary("errors.csv"), caption="../report/errors.rst", category="Tables"),
        hierarchy=report(RESULTS.summary("hierarchy.csv"), caption="../report/hierarchy.rst", category="Tables"),
        runtime=report(RESULTS.summary("runtime.csv"), caption="../report/runtime.rst", category="Tables"),
        markdown=report(RESULTS.summary("tables.md"), caption="../report/tables.rst", category="Tables"),
        latex=RESULTS.summary("tables.tex"),
    log:
        RESULTS.log("report/tidy"),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        results=subpath(output.metrics, ancestor=2),
        inputs=flags(metrics="--metrics", comparisons="--comparisons", errors="--errors", wrong="--wrong", models="--model"),
        digest=REPORT.config_digest,
    message:
        "write the tidy tables"
    shell:
        "mentionforge report tidy {params.results:q} {params.inputs} --config-digest {params.digest} 2>&1 | tee {log:q}"


rule page:
    """Write the report page, one HTML file that opens offline, and its figures as SVG and PDF."""
    input:
        spec=spec_of("report", "page"),
        metrics=REPORT.metrics,
        comparisons=REPORT.compared("comparisons"),
        errors=REPORT.recognition_errors,
        wrong=REPORT.normalization_errors,
        changes=REPORT.compared("changes"),
        models=REPORT.fetched_models,
        tables=[path for path in REPORT.tables if path.endswith(("mentions.parquet", "concepts.parquet", "names.parquet", "stats.json"))],
        generation=[path for path in REPORT.generation if path.endswith(("located.parquet", "mentions.parquet", "rejected.parquet", "funnel.json"))],
    output:
        page=report(RESULTS.report("index.html"), caption="../report/page.rst", category="Report"),
        figures=report(directory(RESULTS.summary("figures")), patterns=["{name}.svg"], caption="../report/figures.rst", category="Figures"),
    log:
        RESULTS.log("report/page"),
    benchmark:
        RESULTS.benchmark("report/page")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        results=subpath(output.page, ancestor=2),
        inputs=flags(metrics="--metrics", comparisons="--comparisons", errors="--errors", wrong="--wrong", models="--model"),
        digest=REPORT.config_digest,
        privacy=REPORT.licensed_entries,
        concepts=CONFIG.report.browser_concepts,
    message:
        "write the report page"
    shell:
        "mentionforge report page {params.results:q} {params.inputs} --config-digest {params.digest} {params.privacy} --concepts {params.concepts}"
        " --out {output.page:q} 2>&1 | tee {log:q}"


rule sweeps:
    """Summarize a sweep: every cell with its state, and the scores by each swept setting."""
    input:
        spec=spec_of("report", "sweeps"),
        metrics=REPORT.evaluated,
    output:
        csv=RESULTS.sweeps("sweeps.csv"),
        markdown=RESULTS.sweeps("sweeps.md"),
    log:
        RESULTS.log("report/sweeps"),
    benchmark:
        RESULTS.benchmark("report/sweeps")
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        results=subpath(output.csv, ancestor=2),
        out=subpath(output.csv, parent=True),
        config=SWEEP_CONFIG,
    message:
        "summarize the sweep"
    shell:
        "mentionforge report sweeps {params.results:q} --config {params.config:q} --out {params.out:q} 2>&1 | tee {log:q}"
