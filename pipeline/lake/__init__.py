"""The tables of the lake: schemas, reads, and idempotent writes."""
