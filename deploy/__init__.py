"""How chainbooks runs: on a developer's machine, in containers, and the little that both services start with.

- ``deploy.runtime``: settings base, logging, telemetry, health server, exit codes, the JSON-RPC connection. The
  services import this and nothing else of ``deploy``.
- ``deploy.local``: the local stack behind ``make setup``, ``make up`` and the tests: Kafka, PostgreSQL and anvil, in
  containers when a Docker engine can run them, else as native processes. Loopback only.
- ``compose.yaml``, ``Dockerfile``: the same three parts as containers, and the image of the two services.

Read next: ``deploy/local/__init__.py`` for the stack, ``deploy/runtime/settings.py`` for every setting there is.
"""
