"""Folds payment events from Kafka into double-entry books in Postgres.

It guarantees: what is in the books is there once, balanced, append-only, and the same for any batching; what cannot be
posted is in quarantine with its reason; what cannot be true stops its partition.

    Kafka ─► adapters.kafka_consumer ─► pipeline ─► worker ─► core.records (scan) ─► core.fold ─► adapters.batch_store
                                            └─► adapters.promotion_store (final balances, breaks)
    chain ─► adapters.node ─► core.compare ─► adapters.reconciliation_store          (the command ``reconcile``)
    Kafka ─► adapters.kafka_reader ─► rebuild ─► worker … ─► comparison               (the command ``rebuild``)

Read next: ``core/fold.py`` (what an event does to the books), ``sql/migrations`` (what the database refuses),
``worker.py`` (one batch after the other), ``pipeline.py`` (claims, rebalances, outages), ``adr/``, and README.md for
those who query the books.
"""
