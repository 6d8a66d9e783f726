"""loops_sdk_sync: the same clients for code that blocks, generated from the asyncio core."""
