"""Rules of events: what the pipeline ignores, changes or keeps."""
