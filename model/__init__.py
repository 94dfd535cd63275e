"""Training and judging of the networks (built by a later issue)."""
