"""How codes and links are found in a mail: the rules behind `core/extraction.py`, pure and bounded."""
