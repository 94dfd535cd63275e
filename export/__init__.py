"""Export of trained networks to engines (built by a later issue)."""
