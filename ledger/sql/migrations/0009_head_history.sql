-- depends: 0008_join_keys
-- After an incident the final block with a number may be another one: the history tells both.

ALTER TABLE ledger.chain_head_history DROP CONSTRAINT chain_head_history_key;
ALTER TABLE ledger.chain_head_history
ADD CONSTRAINT chain_head_history_key PRIMARY KEY (chain_id, final_number, promoted_at);
COMMENT ON TABLE ledger.chain_head_history IS
'Which block final balances went through, since when. A number that comes again with another hash: an incident replaced it.';
