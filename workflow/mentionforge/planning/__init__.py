"""What a run will do, what it will cost, how far it is, and which files it leaves behind: `mentionforge status`, `cost` and `clean`."""
