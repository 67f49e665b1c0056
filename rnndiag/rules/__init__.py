"""Rules read measurements and return findings: one file per family of rules; ``registry`` lists all rules."""
