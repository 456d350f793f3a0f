"""An Iceberg REST catalog over pyiceberg's ``SqlCatalog``, and moto's S3, each a process on a loopback port.

python -m chaos.stack.facade --config FILE            the catalog
python -m chaos.stack.facade.objects --config FILE    the object store

Unlike SeaweedFS this catalog reads ``metadata.json`` back from the object store on every load, keeps a dropped table's files,
and registers tables: what is done to those files has the effect it has in production.
"""
