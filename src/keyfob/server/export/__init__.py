"""`keyfob feed export`: the live entries as a file, for proxies that check access tokens by themselves."""
