"""Annotate new texts with the recognizer and linker of an experiment.

In: texts, and a results folder or a bundle. Out: mentions with concepts, in the formats of `writers`. It is above the stages, and uses their steps.
Knows nothing of the configuration.
"""
