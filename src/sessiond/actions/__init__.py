"""What a caller may do: one function an action, one transaction a function. They raise only `core.errors`."""
