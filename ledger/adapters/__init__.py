"""The outside of the ledger: Kafka, Postgres, the chain. Library errors become ours here, in one place each."""
