"""Recognition (DER): finds disease mentions in text by token classification or by a dictionary."""
