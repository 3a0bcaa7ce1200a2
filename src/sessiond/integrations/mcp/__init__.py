"""The Model Context Protocol: what an assistant may do with sessions, as tools. On stdio, and at /mcp of a server."""
