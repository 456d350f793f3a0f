"""Iceberg tables from the inside: walked, checked, damaged on purpose and mended. Imports nothing else of ours.

The object store, the catalog and the clock are arguments, so that everything works on any table that pyiceberg can load.
"""
