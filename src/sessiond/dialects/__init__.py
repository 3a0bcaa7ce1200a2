"""One folder a wire: `routes.py` parses and calls, `shapes.py` is pure, `README.md` says what its document does not."""
