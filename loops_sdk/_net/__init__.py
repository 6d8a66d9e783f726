"""The only code of the client that touches the network."""
