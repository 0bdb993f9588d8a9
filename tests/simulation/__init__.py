"""The whole system from one seed: both pipelines, step by step, on a chain, nodes and a Kafka that go wrong.

``world`` moves everything and draws the order from the seed; ``loop`` gives virtual time and the gates at which every
call to the outside waits for its turn. ``chain`` and ``payments`` are the truth, ``nodes`` what is told of it;
``kafka``, ``producer`` and ``consumer`` are Kafka in memory, ``database`` is real PostgreSQL with real faults;
``actors`` are the processes, which may be killed at any call. ``checks`` looks as a read_committed observer after
every step, ``settle`` compares the books with an independent fold of the chain at the end. ``faults`` names what goes
wrong. ``arena`` runs seeds one after the other; ``make simulate SEED=… STEPS=…`` runs one.
"""
