"""What is agreed: with the chain (ABIs, descriptions, decoders, posting rules) and with consumers (messages, schemas).

What it guarantees: a log is decoded strictly or refused with a reason, never guessed; an event's transfers follow from
its description's version alone; messages only grow. Nothing here talks to a node, a broker or a database.

How data flows::

    registry/*.yaml + abi/*.json --registry.load_registry--> Registry --dispatch(address, topics)--> EventCodec
    topics, data --EventCodec.decode--> Decoded --(indexer: where it stood)--> messages.PaymentEvent --> Kafka
    document of the registry topic --PostingRules.from_document--> rules.postings(event) --> Posting, Posting, …

Read next: README.md (for consumers and authors of descriptions), messages.py, description.py, rules.py, codec.py,
posting.py.
"""
