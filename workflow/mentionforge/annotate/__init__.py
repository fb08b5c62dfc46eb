"""Annotate: diseases in anybody's texts, recognized and linked by what an experiment trained. It stands above the stages and uses their steps."""
