"""Property tests draw the same examples on every machine: what fails for one fails for all, and can be looked at."""

from hypothesis import settings

settings.load_profile("ci")
