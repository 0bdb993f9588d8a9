-- depends: 0006_incidents
-- What each finance view and each column that does not explain itself means: \d+ and every SQL client show it.

COMMENT ON SCHEMA finance IS
'The books for finance: views only. debit and credit are never negative, net = debit - credit, balance is positive on the normal side. Every amount stands twice: in units of the asset (NULL when the asset is not listed), and in base units.';
COMMENT ON FUNCTION finance.hex(BYTEA) IS 'Bytes as lower-case 0x text.';

COMMENT ON VIEW finance.balances IS
'One row for each account, asset and basis.';
COMMENT ON COLUMN finance.balances.basis IS
'latest: everything folded so far, blocks may still be replaced. final: one consistent cut, through the last promoted block.';
COMMENT ON COLUMN finance.balances.account IS 'class:book:kind:subject:state, - where there is none.';
COMMENT ON COLUMN finance.balances.class IS
'assets (custody), liabilities (claims), income, expenses, equity, or clearing: what is not explained yet.';
COMMENT ON COLUMN finance.balances.kind IS 'What kind of account: onchain, account, escrow, unattributed and so on.';
COMMENT ON COLUMN finance.balances.subject IS 'Whose account: the id or address, - for one account of the whole book.';
COMMENT ON COLUMN finance.balances.state IS 'What may be done with it, for example available; - where there is none.';
COMMENT ON COLUMN finance.balances.normal_side IS 'The side on which the balance is positive.';
COMMENT ON COLUMN finance.balances.net IS 'debit - credit.';
COMMENT ON COLUMN finance.balances.balance IS 'Positive on the normal side; of clearing: net.';
COMMENT ON COLUMN finance.balances.asset IS 'Symbol of a listed asset, else its CAIP-19 code.';
COMMENT ON COLUMN finance.balances.asset_code IS 'CAIP-19: eip155:<chain id>/erc20:0x…, or slip44:60 for the native coin.';
COMMENT ON COLUMN finance.balances.decimals IS 'One unit is 10^decimals base units. NULL: not listed, nobody vouches for it.';
COMMENT ON COLUMN finance.balances.as_of_block IS 'Through which block: of this partition (latest) or of all (final).';

COMMENT ON VIEW finance.trial_balance IS
'Accounts added up by book, asset, class, kind and state. Of one asset and basis final, debit and credit have the same sum.';
COMMENT ON COLUMN finance.trial_balance.basis IS 'latest or final, as in balances; only final is one consistent cut.';
COMMENT ON COLUMN finance.trial_balance.accounts IS 'How many accounts the row adds up.';
COMMENT ON COLUMN finance.trial_balance.debit IS 'Sum of the accounts whose net is on the debit side.';
COMMENT ON COLUMN finance.trial_balance.credit IS 'Sum of the accounts whose net is on the credit side, as a positive number.';
COMMENT ON COLUMN finance.trial_balance.net IS 'debit - credit.';
COMMENT ON COLUMN finance.trial_balance.balance IS 'Positive on the normal side; of clearing: net.';
COMMENT ON COLUMN finance.trial_balance.as_of_block IS 'The lowest block through which any of its accounts is known.';

COMMENT ON VIEW finance.journal IS
'Every line that was ever booked, beside the event and the place on the chain that it comes from. Nothing is changed or removed: what a reorg took back has a line with action reverse. An entry that moves no money has one row without accounts.';
COMMENT ON COLUMN finance.journal.entry_id IS 'One revision of one event. Later entries have higher numbers.';
COMMENT ON COLUMN finance.journal.line IS 'Position of the transfer in its entry, NULL when the entry moves no money.';
COMMENT ON COLUMN finance.journal.action IS 'post: the event counts; reverse: it was taken back, the same amount with the sides changed.';
COMMENT ON COLUMN finance.journal.contract IS 'Name of the description that read the event.';
COMMENT ON COLUMN finance.journal.subject IS 'What the event is about: account, invoice, payment.';
COMMENT ON COLUMN finance.journal.amount IS 'Goes from credit_account to debit_account; always positive.';
COMMENT ON COLUMN finance.journal.event_at IS 'Time of the block.';
COMMENT ON COLUMN finance.journal.recorded_at IS 'When the ledger booked it.';
COMMENT ON COLUMN finance.journal.late IS 'It became known after its place in the stream had passed.';
COMMENT ON COLUMN finance.journal.final IS 'Its block is part of the final balances.';
COMMENT ON COLUMN finance.journal.address IS 'Contract that emitted the event.';
COMMENT ON COLUMN finance.journal.event_id IS 'Identity of the log on its block: the same tx in another block is another event.';
COMMENT ON COLUMN finance.journal.revision IS 'Odd: applied; even: taken back. The highest one of an event_id is what counts.';
COMMENT ON COLUMN finance.journal.contract_seq IS 'The contract''s own gap-free number of this money event, where it counts them.';
COMMENT ON COLUMN finance.journal.args IS 'The event''s arguments as decoded; wide integers as text.';
COMMENT ON COLUMN finance.journal.correlation IS 'Named ids that stay the same when a payment moves to another block.';
COMMENT ON COLUMN finance.journal.description_version IS 'Hash of the description whose rules booked it.';
COMMENT ON COLUMN finance.journal.incident_id IS 'Set when it was booked by an accepted incident: it had been final otherwise before.';
COMMENT ON COLUMN finance.journal.as_of_block IS 'Through which block its partition is folded.';

COMMENT ON VIEW finance.account_statement IS
'The movements of each account in the order of booking, with the running balance.';
COMMENT ON COLUMN finance.account_statement.action IS 'post: the event counts; reverse: it was taken back.';
COMMENT ON COLUMN finance.account_statement.counter_account IS 'The other side of the transfer.';
COMMENT ON COLUMN finance.account_statement.running_net IS 'debit - credit of this account and asset through this line.';
COMMENT ON COLUMN finance.account_statement.running_balance IS 'The same, positive on the normal side.';
COMMENT ON COLUMN finance.account_statement.event_at IS 'Time of the block.';
COMMENT ON COLUMN finance.account_statement.accounting_date IS 'The day it counts for.';
COMMENT ON COLUMN finance.account_statement.final IS 'Its block is part of the final balances.';
COMMENT ON COLUMN finance.account_statement.late IS 'It became known after its place in the stream had passed.';
COMMENT ON COLUMN finance.account_statement.entry_id IS 'Leads to finance.journal.';
COMMENT ON COLUMN finance.account_statement.as_of_block IS 'Through which block its partition is folded.';

COMMENT ON VIEW finance.proof_of_funds IS
'What is held on the chain against what is owed, by book and asset. custody - claims - own_funds + unexplained = 0.';
COMMENT ON COLUMN finance.proof_of_funds.basis IS 'latest or final, as in balances; only final is one consistent cut.';
COMMENT ON COLUMN finance.proof_of_funds.custody IS 'Net of class assets: what the contracts hold.';
COMMENT ON COLUMN finance.proof_of_funds.claims IS 'Net of class liabilities: what is owed to others.';
COMMENT ON COLUMN finance.proof_of_funds.own_funds IS 'Net of income, expenses and equity.';
COMMENT ON COLUMN finance.proof_of_funds.unexplained IS 'Net of clearing: positive when money left without a reason that the contract told.';
COMMENT ON COLUMN finance.proof_of_funds.covered IS 'custody >= claims.';
COMMENT ON COLUMN finance.proof_of_funds.as_of_block IS 'The lowest block through which any of its accounts is known.';

COMMENT ON VIEW finance.breaks IS
'Differences between two sources that must agree. They stay, with when they were resolved; nothing is ever plugged.';
COMMENT ON COLUMN finance.breaks.kind IS
'custody, claim or count: the books against the chain. clearing: money moved that no event explains.';
COMMENT ON COLUMN finance.breaks.open IS 'The two sides have not agreed again yet.';
COMMENT ON COLUMN finance.breaks.contract IS 'Address of the contract that was asked.';
COMMENT ON COLUMN finance.breaks.subject IS 'What differs: an account, a getter or a tx.';
COMMENT ON COLUMN finance.breaks.ledger IS 'What the books say.';
COMMENT ON COLUMN finance.breaks.onchain IS 'What the chain says; NULL when it gave no answer.';
COMMENT ON COLUMN finance.breaks.began_in_block IS 'The block in which the difference arose, as far as that is known.';
COMMENT ON COLUMN finance.breaks.began_in_tx IS 'The tx in which it arose, as far as that is known.';
COMMENT ON COLUMN finance.breaks.detail IS 'In words.';
COMMENT ON COLUMN finance.breaks.resolved_block IS 'The block at which both sides agreed again.';
COMMENT ON COLUMN finance.breaks.as_of_block IS 'The block at which the two sides were compared last.';

COMMENT ON VIEW finance.quarantine IS
'Records that could not be booked: raw, with the reason. They move no balance until somebody has looked.';
COMMENT ON COLUMN finance.quarantine.open IS 'Nothing has settled it yet, as a retraction of the event does.';
COMMENT ON COLUMN finance.quarantine.origin IS 'Who refused it: indexer (the log cannot be decoded), body (the record cannot be read), rules (it cannot be booked), database.';
COMMENT ON COLUMN finance.quarantine.code IS 'The reason for machines.';
COMMENT ON COLUMN finance.quarantine.reason IS 'The reason for people.';
COMMENT ON COLUMN finance.quarantine.contract IS 'Name of the description.';
COMMENT ON COLUMN finance.quarantine.revision IS 'Odd: applied; even: taken back.';
COMMENT ON COLUMN finance.quarantine.record_offset IS 'Where the record stands in its partition of the topic.';
COMMENT ON COLUMN finance.quarantine.record_value IS 'The record''s body, byte for byte.';
COMMENT ON COLUMN finance.quarantine.as_of_block IS 'Through which block its partition is folded.';

COMMENT ON VIEW finance.completeness IS
'Whether anything is missing: one row for each partition of a topic, and one for each contract that numbers its money events.';
COMMENT ON COLUMN finance.completeness.scope IS 'partition or contract.';
COMMENT ON COLUMN finance.completeness.subject IS 'topic/partition, or name and address of the contract.';
COMMENT ON COLUMN finance.completeness.complete IS 'Nothing is known to be missing, and nothing has stopped.';
COMMENT ON COLUMN finance.completeness.last_seq IS 'The last number that was seen: of the stream, or of the contract itself.';
COMMENT ON COLUMN finance.completeness.missing IS 'How many numbers below it were never seen.';
COMMENT ON COLUMN finance.completeness.detail IS 'In words: why not, or how far.';
COMMENT ON COLUMN finance.completeness.latest_block IS 'Through which block the partition is folded.';
COMMENT ON COLUMN finance.completeness.safe_block IS 'What the chain calls safe there.';
COMMENT ON COLUMN finance.completeness.finalized_block IS 'What the chain calls finalized there.';
COMMENT ON COLUMN finance.completeness.final_block IS 'Through which block the final balances are promoted, over all partitions.';
COMMENT ON COLUMN finance.completeness.as_of_block IS 'latest_block, or final_block where there is none.';

COMMENT ON COLUMN finance.incidents.state IS 'accepted, or waiting for somebody: then its partition stands still.';
COMMENT ON COLUMN finance.incidents.detail IS 'Why it waits, in words.';
COMMENT ON COLUMN finance.incidents.action IS 'post: what stands instead; reverse: what was taken back.';
COMMENT ON COLUMN finance.incidents.entry_id IS 'Leads to finance.journal; NULL while nothing is booked.';
COMMENT ON COLUMN finance.incidents.as_of_block IS 'Through which block it is known.';
