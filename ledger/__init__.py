"""chainbooks-ledger: folds payment events from Kafka into double-entry books in Postgres.

What it guarantees: entries, balances and stream positions commit in one db_tx, fenced by epoch and position, so that
delivering any part of a topic again changes nothing; the unit of money movement is a transfer, so nothing can be half
posted; nothing is ever changed or deleted; a gap stops the fold instead of being skipped.

How data flows::

    adapters.kafka_consumer ─► pipeline (claims, one getmany, dispatch) ─► worker, one per partition
        ─► core.records (headers, numbers, bodies) ─► core.fold (postings, contra entries, netting of clearing)
        ─► adapters.batch_store (one db_tx)       ─► core.promotion, adapters.promotion_store (final balances, breaks)

``core`` decides and never awaits, ``adapters`` perform, ``pipeline`` and ``worker`` alternate between them, ``app``
wires. Read next: sql/migrations (the schema), core/fold.py, worker.py, pipeline.py; README.md is for finance.
"""
