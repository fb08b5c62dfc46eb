"""Annotate new texts with the recognizer and linker of an experiment. It is above the stages, and uses their steps."""
