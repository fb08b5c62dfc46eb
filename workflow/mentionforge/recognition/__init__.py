"""Recognition: disease mentions in text, by token classification (DER)."""
