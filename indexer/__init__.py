"""chainbooks-indexer: reads payment-contract events from one EVM chain and publishes them to Kafka exactly once.

What it guarantees: events, watermarks and the cursor commit in one kafka_tx; a replaced block yields retractions with
the whole payload, newest first; nothing below the published finalized block ever changes; whatever fails, it goes on
from the state topic and never from memory.

How data flows::

    adapters.heads (wake-up) ─► pipeline ─► fetch.tips ─► core.chain.step: known? candidate? reorg? violation?
                                   │            │
                                   │            └─► fetch.blocks ─► core.assemble ─► records of each block
                                   ▼
              core.plan (bounded changes) ─► core.compose (one kafka_tx) ─► session ─► adapters.kafka_publisher

After a change below finality nothing of this runs until an operator resolves it: ``evidence`` compares the streams,
read back, with the chain that the nodes confirm; ``resolve`` publishes the difference and lifts the latch.

``core`` decides and never awaits, ``adapters`` perform, ``session`` owns the producer and the durable state,
``durable`` reads the state topic, whole or what memory released of it, ``pipeline`` alternates between them, ``app``
wires.
Read next: core/chain.py, core/compose.py, session.py, pipeline.py, README.md.
"""
