"""What the ledger decides, without any I/O: records, the fold, promotion, the record chain."""
