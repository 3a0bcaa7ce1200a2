"""How things are kept: two engines (`sqlite`, `postgres`) under one set of functions, a module a noun."""
