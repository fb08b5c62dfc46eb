"""Export of results in layouts that other tools read. It is above the stages: it reads their tables and uses their writers."""
