"""Tests the promises: injected faults, an oracle that knows the right answers, a checker that counts violations."""
