"""What a program waits for, shown to the person in front of it: one line for each long wait, gone when it is over."""

from loops_sdk.instrumentation.progress.choosing import progress_observer, shown

__all__ = ["progress_observer", "shown"]
