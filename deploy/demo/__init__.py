"""The demo: a small business on a chain of its own, followed live into Kafka and the books, then checked.

Promises: the same seed gives the same run, down to block hashes and the digest of the books; whatever it starts it
stops by pid; it ends with 0 only when every balance equals the chain and the one silent withdrawal, nothing else, was
found.

- ``actors.py``, ``claims.py``, ``deeds.py``, ``business.py``: from a seed to a ``plan.py``; pure.
- ``chain.py``: anvil, deterministic; ``performance.py`` plays the plan on it at a pace.
- ``stage.py``: services, database, topics, settings, registry overlay; ``processes.py``: indexer and ledger.
- ``tap.py`` listens to Kafka; ``sight.py`` and ``probe.py`` look at the books through a second connection.
- ``check.py`` (with ``check_events.py``, ``check_postings.py``): recomputes all balances from receipts, on its own.
- ``run.py`` puts it together into an ``outcome.py``; ``judge.py`` says what is wrong; ``view.py`` and ``report.py``
  show it.

It talks to the services only as a user does: commands, topics, SQL. Read next: ``run.py``.
"""
