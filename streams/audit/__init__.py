"""Tamper evidence: a Merkle log of each partition of the journal, signed checkpoints, proofs, and checks."""
