"""One file a route: HttpRequest to HttpResponse."""
