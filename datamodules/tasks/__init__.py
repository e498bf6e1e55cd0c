"""Conversations to learn from, by task: one small file for each kind, and what they share (task, table, order)."""
