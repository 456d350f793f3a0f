"""
An HTTP forwarder in front of S3 and an Iceberg catalog, for the faults that TCP cannot express: by verb, path, object kind and
occurrence, "applied, but the answer was lost", stale reads, R2's own limits. It is a process of its own, driven over HTTP.

    client ─> server.py ─> exchange.py ─> upstream.py ─> S3 or catalog
                             │  actions.py   what a rule does to the request
                             │  route.py     heads, signatures and addresses on the way through
    rules.py  what may be asked for      rulebook.py  which rules touch a request
    control.py  rules over HTTP          log.py       gateway.jsonl, one line per request

See `chaos.gateway.rules` for the rules, `chaos.gateway.control` for the control interface, `chaos.gateway.config` for the
configuration and `chaos.gateway.log` for the log.
"""
