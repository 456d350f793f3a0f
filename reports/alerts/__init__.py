"""Alert rules, evaluated over a run as Prometheus would have, on the target's own metrics and on the truth."""
