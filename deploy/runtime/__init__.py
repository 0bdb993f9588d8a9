"""What both services start with, and all that they may import from ``deploy``.

``settings`` (one TOML file, environment on top), ``log`` (structured, stderr), ``telemetry`` (metrics, spans,
traceparent), ``health`` (/healthz, /readyz, /metrics), ``exit_codes``, ``rpc`` (the connection to a node). Nothing
here knows a payment, a topic or an account.
"""
