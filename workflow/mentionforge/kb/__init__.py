"""Knowledge base: a UMLS release or open ontologies become concepts, names and cross-references."""
