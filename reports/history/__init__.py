"""Many runs: what each came to, how two differ, and whether a figure drifts from night to night."""
