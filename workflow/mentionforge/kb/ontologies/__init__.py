"""Open ontologies: `merge` makes the tables of a knowledge base of them; one module each, named in `registry`."""
