"""Generation: from concepts to prompts, fine-tuned models, notes, located mentions and filtered notes; also the controls without a language model."""
