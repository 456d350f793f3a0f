"""HTTP to servers of this run: never through a proxy that the environment names."""

from __future__ import annotations

import urllib.request

open_url = urllib.request.build_opener(urllib.request.ProxyHandler({})).open
"""As `urllib.request.urlopen`, for URLs or Requests; raises what that raises."""
