"""Is a dataset what it says? Faults, their repair, and what gives the match away."""
