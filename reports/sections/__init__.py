"""Parts of the report's numbers, each from the records of a run."""
