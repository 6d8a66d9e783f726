"""What `loops runs watch` shows: looks at a run, and the picture that each gives. It prints nothing."""

from loops_sdk.cli.watching.looking import Looking
from loops_sdk.cli.watching.looks import Look, Operation
from loops_sdk.cli.watching.pictures import as_json, picture

__all__ = ["Look", "Looking", "Operation", "as_json", "picture"]
