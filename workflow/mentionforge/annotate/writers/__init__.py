"""Formats in which `mentionforge annotate` writes, one file each. `FORMATS` lists them in the order of the command's help.

In: annotated documents. Out: files. Knows nothing of models. A new format: its file (see `contract`), its import, and one member of `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from mentionforge.annotate.writers.bioc import BioCAnnotations
from mentionforge.annotate.writers.brat import BratAnnotations
from mentionforge.annotate.writers.contract import AnnotationFormat
from mentionforge.annotate.writers.fhir import FhirAnnotations
from mentionforge.annotate.writers.html import HtmlAnnotations
from mentionforge.annotate.writers.jsonl import JsonLinesAnnotations
from mentionforge.annotate.writers.omop import OmopCsv, OmopParquet
from mentionforge.annotate.writers.parquet import ParquetAnnotations
from mentionforge.annotate.writers.pubtator import PubTatorAnnotations

FORMATS: tuple[AnnotationFormat, ...] = (
    BratAnnotations(),
    JsonLinesAnnotations(),
    PubTatorAnnotations(),
    BioCAnnotations(),
    ParquetAnnotations(),
    HtmlAnnotations(),
    FhirAnnotations(),
    OmopCsv(),
    OmopParquet(),
)

BY_NAME: Mapping[str, AnnotationFormat] = {form.name: form for form in FORMATS}

if TYPE_CHECKING:
    FormatName = str
else:
    FormatName = Literal[*BY_NAME]
"""Name of a format: the choices of the command."""
