"""The authority for synchronous callers: the same names, without `await`."""

from keyfob.sync.authority import Authority, SignIn

__all__ = ["Authority", "SignIn"]
