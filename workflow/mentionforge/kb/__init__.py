"""Knowledge base: concepts, names and cross-references, extracted from a UMLS release or from open ontologies."""
