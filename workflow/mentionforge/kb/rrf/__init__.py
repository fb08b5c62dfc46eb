"""A UMLS release in Rich Release Format: `read` makes the tables of a knowledge base of it."""
