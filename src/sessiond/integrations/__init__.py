"""Sessions of other people's frameworks, kept in sessiond: each module is one framework's own kind of class.

They know the client, and nothing of the server. Each needs its framework, an extra of this package by the same name.
"""
