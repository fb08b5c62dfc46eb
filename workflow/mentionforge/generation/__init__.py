"""Generation: concepts become prompts, a QLoRA adapter, notes and located mentions; and the controls without a language model."""
