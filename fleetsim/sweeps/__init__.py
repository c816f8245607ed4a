"""Many runs of one scenario: axes and replications, worked through in parallel, and what they show."""
