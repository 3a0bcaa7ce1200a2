"""From a credential to a Caller."""
