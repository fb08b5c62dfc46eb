"""A UMLS release in Rich Release Format: `read` turns it into the tables of a knowledge base."""
