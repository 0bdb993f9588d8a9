"""What both services start with, and all that they may import from ``deploy``.

``settings`` (one TOML file, environment on top), ``log`` (structured, stderr), ``telemetry`` (metrics, spans,
traceparent), ``health`` (/healthz, /readyz, /metrics), ``exit_codes``, ``rpc`` (the connection to a node),
``topics`` (how topics have to be). Nothing here knows a payment, a topic's name or an account.
"""
