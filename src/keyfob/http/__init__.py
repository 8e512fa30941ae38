"""Cookies, bearer tokens, the cross-origin guard and problems: no framework."""
