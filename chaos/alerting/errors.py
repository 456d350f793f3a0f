"""What can go wrong with alert rules.

BadInput (254)
└── AlertRuleError      a rule file that cannot be read or understood
    └── Unsupported     PromQL that this evaluator does not have
"""

from __future__ import annotations

from chaos.errors import BadInput


class AlertRuleError(BadInput):
    """A rule file that cannot be read or understood."""


class Unsupported(AlertRuleError):
    """PromQL that this evaluator does not have; the rule is named as not evaluated."""
