"""Campaigns: many seeded rounds of one kind of mishap, run on demand; their results are kept."""
