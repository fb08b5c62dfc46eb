"""Recognition (DER): finds disease mentions in text by token classification or by a dictionary.

In: documents, gold and synthetic mentions. Out: predicted mentions, and models. Knows nothing of concepts.
"""
