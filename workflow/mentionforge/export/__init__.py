"""Export: what the stages made, in the layouts that others read. It stands above the stages: it reads their tables and uses their writers."""
