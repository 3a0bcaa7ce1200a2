"""Agents doing their work: `worker.py` takes runs and keeps them, each other file is one way to run an agent."""
