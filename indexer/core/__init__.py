"""What the indexer decides, without any I/O: the chain view, the records of blocks, a kafka_tx, the state.

blocks → bloom → assemble → chain → plan → compose, with state as what all of it is kept in. Values in, values out.
"""
