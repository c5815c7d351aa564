"""One scaling law a file; `registry` lists them by name."""
