"""What limits count: periods, accounts, holds and their worst case. Values in, verdicts out."""
