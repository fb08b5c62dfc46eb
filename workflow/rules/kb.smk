"""Knowledge base: a UMLS release or open ontologies become concepts, names, definitions and cross-references.

REQUIRED INPUTS
    the RRF files of kbs.{kb}.path, or the ontology files that kbs.{kb} names
OUTPUTS
    {results}/kb/{kb}/{concepts,names,definitions,xrefs,retired,parents}.parquet, stats.json
"""

from mentionforge.dag.kb import KbInputs

KB = KbInputs(CONFIG)


rule kb_extract:
    """Select concepts by semantic type, language and suppression; rank their names; collect codes and definitions."""
    input:
        spec=spec_of("kbs", "{kb}"),
        files=KB.files,
        versions=KB.raised_of_readers,
    output:
        concepts=RESULTS.kb("{kb}", "concepts.parquet"),
        names=RESULTS.kb("{kb}", "names.parquet"),
        definitions=RESULTS.kb("{kb}", "definitions.parquet"),
        xrefs=RESULTS.kb("{kb}", "xrefs.parquet"),
        retired=RESULTS.kb("{kb}", "retired.parquet"),
        stats=RESULTS.kb("{kb}", "stats.json"),
    log:
        RESULTS.log("kb/{kb}"),
    benchmark:
        RESULTS.benchmark("kb/{kb}")
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


rule kb_parents:
    """Read the direct parents of concepts: is_a of ontologies, trees of MeSH, or MRREL of a UMLS release."""
    input:
        spec=spec_of("kbs", "{kb}"),
        files=KB.files,
        kb=[RESULTS.kb("{kb}", f"{table}.parquet") for table in ("concepts", "xrefs")],
        versions=raised("kb.parents"),
    output:
        parents=RESULTS.kb("{kb}", "parents.parquet"),
    log:
        RESULTS.log("kb/{kb}.parents"),
    benchmark:
        RESULTS.benchmark("kb/{kb}.parents")
    conda:
        "../../envs/mentionforge.yaml"
    threads: 2
    resources:
        **NEEDS,
    params:
        kb=parent_of("kb"),
        hierarchy=CONFIG.hierarchy,
    message:
        "read the hierarchy of knowledge base {wildcards.kb}"
    shell:
        "mentionforge kb parents --spec {input.spec:q} --kb {params.kb:q} --hierarchy {params.hierarchy} --out {output.parents:q} 2>&1 | tee {log:q}"
