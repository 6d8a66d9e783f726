"""The namespace of the Tinker SDK over the clients of this package."""
