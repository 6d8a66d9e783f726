"""``python -m loops_sdk`` is the command ``loops``."""

from loops_sdk.cli import main

main()
