"""The local stack: Kafka, PostgreSQL and anvil on this machine's loopback, for ``make up``, the demo and the tests.

Promises: own ports (never the defaults), data under ``.local/``, every process kept and stopped by its pid and start
time, readiness awaited with a limit, and a part that cannot start is named with the reason and what to do about it.

- ``setup.py``, ``toolchain.py``: what ``make setup`` fetches and which programs it needs; idempotent, by stamps.
- ``native/``: one module per part, as a process of this machine. ``daemon.py`` starts and stops the processes.
- ``compose.py``: the same parts as containers, when a Docker engine answers and has the images.
- ``stack.py``: up, down, status over whichever of the two; ``configuration.py`` writes ``.local/chainbooks.toml``.
- ``topics.py``: looks into Kafka; ``__main__.py``: the command line.

The services never import this package. Read next: ``stack.py``.
"""
