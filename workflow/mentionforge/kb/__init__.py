"""Knowledge base: concepts, names and cross-references, extracted from a UMLS release or from open ontologies.

In: files of an entry of `kbs`. Out: tables of concepts, names, definitions, cross-references and parents. Knows nothing of corpora.
"""
