"""Log sources: files and the journal, read into events, with positions that survive kill -9."""
