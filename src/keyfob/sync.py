"""The authority for synchronous callers: the same names, without `await`.

It runs the asynchronous authority on an event loop in a daemon thread. Every method may be called from any thread. After a fork the
thread is gone in the child: the first call there says so; open the authority after the fork (gunicorn: in `post_fork`).
"""

from __future__ import annotations
