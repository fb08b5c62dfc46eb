"""Commands annotate, bundle and serve.

In: arguments. Out: calls of the modules of this package, imported only when a command runs. Knows nothing of how a text is annotated.
"""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mentionforge.annotate.writers import BY_NAME, FormatName
from mentionforge.errors import UserError

if TYPE_CHECKING:
    from mentionforge.annotate.context import Context
    from mentionforge.annotate.pipeline import Materials

app = typer.Typer()

FROM = typer.Option(None, "--from", help="Results folder, or a cell in it: results/recognition/…, results/end_to_end/….")
RECOGNIZER = typer.Option(None, help="Recognition cell, or the end of its path; needed where --from leaves several.")
LINKER = typer.Option(None, help="LINKER/INDEX of the recognizer's corpus, or a normalization cell.")
KB = typer.Option(None, help="Knowledge base; none: the corpus' own.")
RESOURCES = typer.Option(None, help="Folder of fetched weights; none: resources beside the results.")
BUNDLE = typer.Option(None, help="Bundle, in place of --from.")
LICENSED = typer.Option(False, "--licensed-text", help="Write, or read, a bundle that holds licensed text (UMLS names, mentions of licensed corpora).")
CONTEXT = typer.Option(False, "--context", help="Say what is negated, about the family, or hypothetical.")
TOP = typer.Option(5, min=1, max=100, help="Concepts per mention at most.")
INT8 = typer.Option(False, "--int8", help="Compute the recognizer in 8-bit integers, on a CPU: faster, with slightly other mentions (docs/performance.md).")
CODES = typer.Option(None, help="Vocabularies whose codes are named beside a concept, as SNOMEDCT_US,ICD10CM,ORPHANET,MSH,HPO; none: no codes.")
NIL = typer.Option(None, help="First concepts that score less are no answer; none: the threshold that was best on dev.")


def materials(
    source: Path | None, bundle: Path | None, recognizer: str | None, linker: str | None, kb: str | None, resources: Path | None, licensed: bool
) -> Materials:
    """Load the materials that --from or --bundle names."""
    if (source is None) == (bundle is None):
        raise UserError("which model?", "command line", "", "give either --from RESULTS or --bundle BUNDLE")
    if bundle is not None:
        if recognizer or linker or kb:
            raise UserError("a bundle has these", "command line", "--recognizer, --linker and --kb choose cells of a results folder", "leave them out")
        from mentionforge.annotate import bundle as bundles

        return bundles.read(bundle, licensed)
    from mentionforge.annotate import cells

    assert source is not None
    return cells.find(source, recognizer, linker, kb, resources)


@app.command("annotate")
def annotate(
    inputs: list[str] = typer.Argument(..., help="Files, folders, quoted patterns, tables (.csv, .tsv, .parquet, .jsonl), or - for standard input."),
    source: Path = FROM,
    bundle: Path = BUNDLE,
    recognizer: str = RECOGNIZER,
    linker: str = LINKER,
    kb: str = KB,
    resources: Path = RESOURCES,
    to: FormatName = typer.Option("jsonl", "--to", help="What to write."),
    out: Path = typer.Option(None, help="Folder to write; none: JSON Lines to standard output."),
    top: int = TOP,
    nil_threshold: float = NIL,
    encoding: str = typer.Option("utf-8", help="Encoding of the texts."),
    max_mb: float = typer.Option(20.0, min=0.001, help="Longer documents are listed as errors."),
    text_column: str = typer.Option(None, help="Column of tables that holds the text; none: text. With it, tables in folders are read as such too."),
    id_column: str = typer.Option(None, help="Column that names the document; none: doc_id, id, note_id or pmid, or else the row."),
    pattern: str = typer.Option("*", help="Files of folders that are read, as *.txt."),
    lines: bool = typer.Option(False, "--lines", help="Each line of standard input is a document."),
    context: bool = CONTEXT,
    codes: str = CODES,
    int8: bool = INT8,
    licensed_text: bool = LICENSED,
) -> None:
    """Find diseases in texts and name their concepts; exit code 3 if some inputs could not be annotated (errors.jsonl)."""
    from mentionforge.annotate import reading, run
    from mentionforge.annotate.codes import of_materials, parse
    from mentionforge.annotate.pipeline import Annotator
    from mentionforge.progress import say
    from mentionforge.provenance import sha256_file

    vocabularies = () if codes is None else parse(codes)
    context = context or BY_NAME[to].reads_context
    options = reading.Options(_codec_name(encoding), max_mb, text_column, id_column, pattern, lines)
    if out is None and not BY_NAME[to].streams:
        raise UserError("where to?", "command line", f"{to} is not written to standard output", "give --out FOLDER")
    reading.list_files(inputs, options)
    model = materials(source, bundle, recognizer, linker, kb, resources, licensed_text)
    coded = of_materials(model, vocabularies)
    annotator = Annotator(model, top, nil_threshold, _context(context), int8, coded)
    if out is None:
        summary = run.stream(inputs, annotator, options, sys.stdout)
    else:
        settings = {"card": json.loads(json.dumps(model.card)), "context": context} | ({"contents": model.contents} if model.contents else {})
        settings |= {"int8": True} if int8 else {}
        settings |= {"codes": coded.vocabularies, "xrefs": sha256_file(model.xrefs) if model.xrefs else None} if coded else {}
        summary = run.annotate(inputs, annotator, to, out, options, settings)
    say(summary.message() + (f"; see {out / 'errors.jsonl'}" if summary.errors and out is not None else ""))
    if summary.errors:
        raise typer.Exit(3)


def _context(enabled: bool) -> Context | None:
    if not enabled:
        return None
    from mentionforge.annotate.context import Context

    return Context()


def _codec_name(encoding: str) -> str:
    import codecs

    try:
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise UserError("unknown encoding", "--encoding", encoding, "give one that Python knows, as utf-8 or cp1252") from error


@app.command("bundle")
def bundle(
    source: Path = typer.Argument(..., help="Results folder, or a cell in it."),
    recognizer: str = RECOGNIZER,
    linker: str = LINKER,
    kb: str = KB,
    resources: Path = RESOURCES,
    out: Path = typer.Option(..., help="Folder to write, or a file that ends in .tar."),
    licensed_text: bool = LICENSED,
) -> None:
    """Write recognizer, linker, index and what describes them into one folder."""
    from mentionforge.annotate import bundle as bundles

    bundles.write(materials(source, None, recognizer, linker, kb, resources, licensed_text), out, licensed_text)


@app.command("serve")
def serve(
    source: Path = FROM,
    bundle: Path = BUNDLE,
    recognizer: str = RECOGNIZER,
    linker: str = LINKER,
    kb: str = KB,
    resources: Path = RESOURCES,
    host: str = typer.Option("127.0.0.1", help="Address to listen on; there is no authentication, so others than the loopback need something in front."),
    port: int = typer.Option(8000, min=0, max=65535, help="Port to listen on; 0: any that is free."),
    allow_host: list[str] = typer.Option([], help="Further names by which the service may be called, or *."),
    top: int = TOP,
    nil_threshold: float = NIL,
    context: bool = CONTEXT,
    codes: str = CODES,
    int8: bool = INT8,
    max_mb: float = typer.Option(2.0, min=0.001, help="Longest request."),
    max_documents: int = typer.Option(100, min=1, help="Documents per request at most."),
    timeout_s: float = typer.Option(60.0, min=0.1, help="Longest wait for an answer, in seconds."),
    licensed_text: bool = LICENSED,
) -> None:
    """Annotate over HTTP: POST /annotate, OpenAPI in /openapi.json, and a page to paste a note."""
    try:
        import uvicorn

        from mentionforge.annotate.service import Limits, create
    except ImportError as error:
        raise UserError("missing library", "serve", str(error.name), "pip install 'mentionforge[serve]'") from error
    from mentionforge.annotate.codes import of_materials, parse
    from mentionforge.annotate.pipeline import Annotator
    from mentionforge.progress import say

    vocabularies = () if codes is None else parse(codes)
    model = materials(source, bundle, recognizer, linker, kb, resources, licensed_text)
    annotator = Annotator(model, top, nil_threshold, _context(context), int8, of_materials(model, vocabularies))
    loopback = host in ("127.0.0.1", "localhost", "::1")
    names = ["127.0.0.1", "localhost", "[::1]", *([] if loopback else [host]), *allow_host]
    if not loopback:
        say(f"listening on {host}: whoever reaches this address can use the service, and texts cross the network unencrypted")
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError("cannot listen", f"{host}:{port}", error.strerror or type(error).__name__, "choose another --port or --host") from error
    say(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}/ (stop with Ctrl-C)")
    service = create(annotator, Limits(max_mb, max_documents, timeout_s), names)
    uvicorn.Server(uvicorn.Config(service, log_level="warning", access_log=False, server_header=False)).run(sockets=[listener])
