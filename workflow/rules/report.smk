"""Report: metrics become tidy tables and one page of Markdown.

REQUIRED INPUTS
    {results}/evaluation/{recognition,normalization}/{corpus}.parquet, {results}/generation/{generator}/funnel.json
    {results}/{kb,corpora}/*/stats.json
OUTPUTS
    {results}/summary/{recognition,normalization,generation}.csv, summary.md
"""


rule summary:
    """Every cell of the experiment in tidy CSV files, and the tables that people read."""
    input:
        metrics=EVALUATED,
        funnels=[f"{R}/generation/{g}/funnel.json" for g in USED_GENERATORS],
        corpora=[f"{R}/corpora/{c}/stats.json" for c in USED_CORPORA],
        kbs=[f"{R}/kb/{kb}/stats.json" for kb in USED_KBS],
        models=[f"{RESOURCES}/models/{m}/fetched.json" for m in USED_MODELS],
    output:
        recognition=f"{R}/summary/recognition.csv",
        normalization=f"{R}/summary/normalization.csv",
        generation=f"{R}/summary/generation.csv",
        markdown=f"{R}/summary/summary.md",
    log:
        f"{R}/logs/report/summary.log",
    benchmark:
        f"{R}/benchmarks/report/summary.tsv"
    conda:
        "../../envs/mentionforge.yaml"
    params:
        out=subpath(output.markdown, parent=True),
        inputs=flags(metrics="--metrics", funnels="--funnel", corpora="--corpus", kbs="--kb", models="--model"),
    message:
        "write the summary tables"
    shell:
        "mentionforge report summary {params.inputs} --out {params.out:q} 2>&1 | tee {log:q}"
