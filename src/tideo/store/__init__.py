"""Storage that survives being killed: content keys and atomic files, append-only records, shards of features.

A reader sees a file whole or not at all. A record or a shard that a crash cut short is dropped, with a warning or
by its missing index; everything finished before it is kept, so every long job continues where it stopped.
"""
