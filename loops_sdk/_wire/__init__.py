"""The protocol as data and pure functions, shared by the client and by the embedded servers. No I/O, no clock, no
event loop.
"""
