"""Questions that take several runs on one warm stack: capacity, survival, sweep, and one configuration against another."""
