"""External predictions: rankings and mentions that other systems predicted for a corpus, checked and written in the workflow's tables.

REQUIRED INPUTS
    the files that linkers.{linker}.path and recognizers.{recognizer}.path name for {corpus}
    {results}/corpora/{corpus}/{documents,mentions}.parquet, {results}/kb/{kb}/{names,xrefs,retired}.parquet
OUTPUTS
    {results}/normalization/{corpus}/none/none/{linker}/external/{predictions,calibration}.parquet
    {results}/recognition/{corpus}/none/none/{recognizer}/external/seed0/predictions.parquet
"""

from mentionforge.dag.external import ExternalInputs
from mentionforge.layout import NormalizationCell, RecognitionCell

EXTERNAL_SYSTEMS = ExternalInputs(CONFIG)
IMPORTED_CELL = NormalizationCell("{corpus}", NONE, NONE, "{linker}", EXTERNAL)
IMPORTED_RUN = RecognitionCell("{corpus}", NONE, NONE, "{recognizer}", EXTERNAL, 0)


rule external_rankings:
    """Read the rankings of another system for the gold mentions of a corpus; each test mention has one answer."""
    input:
        spec=spec_of("linkers", "{linker}"),
        files=EXTERNAL_SYSTEMS.files("linkers"),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
        id_map=EXTERNAL_SYSTEMS.id_map,
        kb=kb_tables("corpora", "names", "xrefs", "retired"),
    output:
        predictions=RESULTS.normalization(IMPORTED_CELL),
        calibration=RESULTS.normalization(IMPORTED_CELL, "calibration.parquet"),
    log:
        RESULTS.log(f"normalization/{IMPORTED_CELL.path}"),
    benchmark:
        RESULTS.benchmark(f"normalization/{IMPORTED_CELL.path}")
    wildcard_constraints:
        linker=one_of(name for name, entry in CONFIG.linkers.items() if entry.imported),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        path=EXTERNAL_SYSTEMS.path("linkers"),
        corpus=parent_of("corpus"),
        kb=parent_of("kb"),
    message:
        "read the rankings of {wildcards.linker} for {wildcards.corpus}"
    shell:
        "mentionforge external rankings --spec {input.spec:q} --path {params.path:q} --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q}"
        " --kb {params.kb:q} --out {output.predictions:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}"


rule external_spans:
    """Read the mentions that another system found in a corpus, and check them against its texts."""
    input:
        spec=spec_of("recognizers", "{recognizer}"),
        files=EXTERNAL_SYSTEMS.files("recognizers"),
        corpus=CORPUS_TABLES,
        corpus_spec=spec_of("corpora", "{corpus}"),
    output:
        RESULTS.recognition(IMPORTED_RUN),
    log:
        RESULTS.log(f"recognition/{IMPORTED_RUN.path}"),
    benchmark:
        RESULTS.benchmark(f"recognition/{IMPORTED_RUN.path}")
    wildcard_constraints:
        recognizer=one_of(name for name, entry in CONFIG.recognizers.items() if entry.imported),
    conda:
        "../../envs/mentionforge.yaml"
    resources:
        **NEEDS,
    params:
        path=EXTERNAL_SYSTEMS.path("recognizers"),
        corpus=parent_of("corpus"),
    message:
        "read the mentions of {wildcards.recognizer} in {wildcards.corpus}"
    shell:
        "mentionforge external spans --spec {input.spec:q} --path {params.path:q} --corpus {params.corpus:q} --corpus-spec {input.corpus_spec:q}"
        " --out {output:q} 2>&1 | tee {log:q}"
