"""Alert rules in Prometheus' own format and language, evaluated over samples: live, and over a recorded run alike."""
