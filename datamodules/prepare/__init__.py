"""`vnc prepare`: from files, folders and Hub datasets to shuffled Parquet shards with a manifest.

All of it is one sort. A document's place is a seeded hash of its number in the source, so pass 1 (spill.py) deals
documents to files by ranges of that hash and pass 2 (shards.py) sorts one such file at a time into a shard. What is
finished is noted as it happens, so a run that is killed goes on where it was and ends with the same bytes.
"""
