"""The indexer's outside: one file per outside thing. Library errors become ours here, in one place each.

node (JSON-RPC answers), failover (several nodes), heads (newHeads), kafka_publisher, kafka_state, kafka_topics, clock.
"""
