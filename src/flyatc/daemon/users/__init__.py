"""Users and their machines, as an operator changes them: seen, planned step by step, and done."""
