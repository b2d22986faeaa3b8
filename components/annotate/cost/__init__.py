"""cost: what annotation took, and what it will take; ledger and estimate."""
