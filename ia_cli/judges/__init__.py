"""The judges of self-reports, the verdicts that they share, and how well they agree with people."""
