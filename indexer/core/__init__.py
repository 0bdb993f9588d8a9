"""What the indexer decides, without any I/O: the chain view, the records of blocks, what a kafka_tx contains, the state.

blocks → bloom → assemble → chain → plan → compose, with state as what all of it is kept in. Values in, values out.
"""
