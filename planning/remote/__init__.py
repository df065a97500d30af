"""Plans from a server: messages, the client on a robot's machine, and the server."""
