"""TRY the promises: faults on purpose, an oracle that knows what must come out, a checker that counts."""
