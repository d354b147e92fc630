"""Tamper evidence: a Merkle log over each partition of the journal, its signed checkpoints, proofs, and their checks."""
