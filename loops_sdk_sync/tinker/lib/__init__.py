"""The modules of the Tinker SDK's `lib` that scripts import from."""
