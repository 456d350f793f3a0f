"""`icequake diagnose`: the runbook's root-cause page, answered for a run from its records, or for a live target by watching it."""
