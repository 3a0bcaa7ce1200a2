"""HTTP craft that all wires share: which wire answers, what was asked, how an answer goes out. It knows no wire."""
