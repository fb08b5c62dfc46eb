"""Open ontologies, one module each, listed in `registry`; `merge` turns them into the tables of a knowledge base."""
