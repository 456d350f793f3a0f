"""The verdict as a JUnit file, for CI systems: a test case per check.

FAIL is a `failure`. INCONCLUSIVE is an `error`, not `skipped`: most CI systems show skipped as green, and "could not tell" is
never a pass.
"""

from __future__ import annotations

import re
import time
from xml.etree import ElementTree as ET

from reports.verdict import Check, Verdict, VerdictDoc

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {Verdict.FAIL: "failure", Verdict.INCONCLUSIVE: "error"}


def junit_xml(doc: VerdictDoc) -> str:
    """Return the file's text."""
    failed = sum(check.verdict is Verdict.FAIL for check in doc.checks)
    unclear = sum(check.verdict is Verdict.INCONCLUSIVE for check in doc.checks)
    counts = {"tests": str(len(doc.checks)), "failures": str(failed), "errors": str(unclear)}
    seconds = f"{doc.duration_s:.3f}"
    root = ET.Element("testsuites", {"name": "icequake", **counts, "time": seconds})
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(doc.started_unix_ns / 1e9))
    name = _clean(f"{doc.scenario} on {doc.target}")
    suite = ET.SubElement(
        root, "testsuite", {"name": name, **counts, "skipped": "0", "time": seconds, "timestamp": stamp}
    )
    _add_properties(suite, doc)
    for check in doc.checks:
        _add_case(suite, check)
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _add_properties(suite: ET.Element, doc: VerdictDoc) -> None:
    properties = ET.SubElement(suite, "properties")
    named = {"run": doc.run_id, "seed": doc.seed, "verdict": doc.verdict, "exit_code": doc.exit_code}
    totals = {f"totals.{name}": getattr(doc.totals, name) for name in doc.totals.__struct_fields__}
    for name, value in {**named, **totals}.items():
        ET.SubElement(properties, "property", {"name": name, "value": _clean(str(value))})


def _add_case(suite: ET.Element, check: Check) -> None:
    group = check.id.partition(".")[0]
    case = ET.SubElement(
        suite, "testcase", {"classname": f"icequake.{_clean(group)}", "name": _clean(check.id), "time": "0"}
    )
    element = _ELEMENTS.get(check.verdict)
    if element is None:
        return
    found = ET.SubElement(case, element, {"message": _clean(check.claim), "type": str(check.verdict)})
    lines = [f"cause: {check.cause}"] if check.cause else []
    lines += [f"{name}: {count}" for name, count in check.counts.items()]
    found.text = _clean("\n".join([*lines, *check.evidence]))


def _clean(text: str) -> str:
    """Replace characters that XML 1.0 cannot hold at all."""
    return _FORBIDDEN.sub("\ufffd", text)
