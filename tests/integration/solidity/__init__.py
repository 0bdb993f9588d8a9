"""What our contracts do, on anvil: every rule and identity that the books rely on, against honest and hostile parts."""
