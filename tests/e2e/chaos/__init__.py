"""The real thing under fire: real commands, Kafka, PostgreSQL and anvil, ``kill -9`` in random order, a live load.

What it shows: after any order of kills, restarts and reorgs the topics and the books are what they would be without
them. ``plan.py`` draws the blows from a seed; ``load.py`` makes payments and reorgs; ``parts.py`` and ``supervisor.py``
keep the processes, kill them and start them again; ``settle.py`` waits for the end; ``streams.py`` reads the topics as
a consumer does; ``verdict.py`` compares them, the books and the chain. Read ``test_chaos.py`` first, then
``ordeal.py``.

What it does not show: the loss of power. ``kill -9`` ends a process, not the machine: what the process had written
stays in the kernel's page cache. PostgreSQL runs with fsync, so a commit that it confirmed would survive a power cut,
too. The single Kafka broker acknowledges before anything is on the disk: with one broker a power cut can lose
acknowledged records, and only replicas on other machines (``replication_factor=3``, ``min.insync.replicas=2``) help
against that. Nor does it show disks that lie or fill up, networks that split, or a second broker that takes over.
"""
