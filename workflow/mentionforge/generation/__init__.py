"""Generation: from concepts to prompts, fine-tuned models, notes, located mentions and filtered notes; also the controls without a language model.

In: a knowledge base, and a corpus to learn from. Out: tables of notes and of their mentions. Knows nothing of recognizers and linkers.
"""
