"""Knowledge base: a UMLS release or open ontologies become concepts, names, definitions and cross-references.

REQUIRED INPUTS
    the RRF files of kbs.{kb}.path, or the ontology files that kbs.{kb} names
OUTPUTS
    {results}/kb/{kb}/{concepts,names,definitions,xrefs,retired}.parquet, stats.json
"""


rule kb_extract:
    """Select concepts by semantic type, language and suppression; rank their names; collect codes and definitions."""
    input:
        spec=spec_of("kbs", "{kb}"),
        files=kb_files,
    output:
        concepts=f"{R}/kb/{{kb}}/concepts.parquet",
        names=f"{R}/kb/{{kb}}/names.parquet",
        definitions=f"{R}/kb/{{kb}}/definitions.parquet",
        xrefs=f"{R}/kb/{{kb}}/xrefs.parquet",
        retired=f"{R}/kb/{{kb}}/retired.parquet",
        stats=f"{R}/kb/{{kb}}/stats.json",
    log:
        f"{R}/logs/kb/{{kb}}.log",
    benchmark:
        f"{R}/benchmarks/kb/{{kb}}.tsv"
    cache: CACHING
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        out=subpath(output.concepts, parent=True),
    message:
        "extract knowledge base {wildcards.kb}"
    shell:
        "mentionforge kb extract --spec {input.spec:q} --out {params.out:q} 2>&1 | tee {log:q}"
